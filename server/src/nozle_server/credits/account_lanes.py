"""Lanes: for an account whose row somebody else holds, or whose key was used before, or which has more to do.

What waits for it is decided in ordinary transactions that lock the row, one lane an account, while the batches of the
others go on. See docs/decisions/0009.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from nozle_server.core.errors import NozleError, Unavailable
from nozle_server.credits import book_store, system_store
from nozle_server.credits.book import Book
from nozle_server.credits.group_queue import Queue, give_up, refuse
from nozle_server.credits.group_request import (
    DEADLINE_S,
    MAX_BATCH,
    AccountKey,
    Answer,
    Request,
    as_refusal,
)
from nozle_server.credits.kept_books import KeptBooks
from nozle_server.credits.system_store import Systems
from nozle_server.customers.queries import unknown_customer
from nozle_server.infra import idempotency
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import LOCK_TIMEOUT_MS, Database, Tx

LANES = 4
"""Lanes at work at once; the others wait, as their accounts would anyway."""


class AccountLanes:
    """The lanes of one process."""

    def __init__(
        self,
        database: Database,
        bus: ChangeBus,
        books: KeptBooks,
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`start` runs something in the background."""
        self._database = database
        self._bus = bus
        self._books = books
        self._start = start
        self._at_once = asyncio.Semaphore(LANES)

    def open(self, queue: Queue, account: AccountKey, requests: Iterable[Request]) -> None:
        """Have an account's requests decided in a lane, behind what waits in it."""
        if account in queue.lanes:
            queue.lanes[account].extend(requests)
            return
        queue.lanes[account] = deque(requests)
        self._start(self._drive(queue, account))

    async def _drive(self, queue: Queue, account: AccountKey) -> None:
        """A lane: everything that waits for one account, in transactions that lock it, until nothing does."""
        lane = queue.lanes[account]
        try:
            while lane:
                try:
                    async with asyncio.timeout(LOCK_TIMEOUT_MS / 1000):
                        await self._at_once.acquire()
                except TimeoutError:
                    for request in _together(lane):
                        request.resolve(Unavailable("the database is busy, try again", code="too_busy"))
                    continue
                try:
                    await self._alone(queue, account, _together(lane))
                finally:
                    self._at_once.release()
        finally:
            del queue.lanes[account]
            give_up(lane)

    async def _alone(self, queue: Queue, account: AccountKey, requests: list[Request]) -> None:
        """Decide and write requests of one account in a transaction that holds it, and answer them."""
        self._books.drop(queue.org_id, account)

        async def work(tx: Tx) -> list[tuple[Request, Answer | NozleError]]:
            return await self._decide_locked(tx, queue, account, requests)

        try:
            outcomes = await self._database.run(work, deadline_s=DEADLINE_S)
        except Exception as fault:  # noqa: BLE001  # everyone who waits is told
            if len(requests) > 1 and not isinstance(fault, Unavailable):
                for request in requests:
                    await self._alone(queue, account, [request])
                return
            refusal = as_refusal(fault)
            for request in requests:
                request.resolve(refusal)
            if isinstance(refusal, Unavailable) and refusal.code == "lock_timeout":
                # Who came later has waited for the same row, and is not made to wait as long again.
                refuse(queue.lanes[account], refusal)
        except BaseException:
            for request in requests:
                request.resolve(Unavailable("the server is stopping, try again"))
            raise
        else:
            for request, outcome in outcomes:
                request.resolve(outcome)

    async def _decide_locked(
        self, tx: Tx, queue: Queue, account: AccountKey, requests: Sequence[Request]
    ) -> list[tuple[Request, Answer | NozleError]]:
        org_id = queue.org_id
        await tx.replan(len(requests))
        for request in requests:
            if request.before is not None:
                await request.before(tx)
        [(customer_id, account_id)] = await book_store.find_account_ids(tx, org_id, [account])
        if customer_id is None:
            return [(request, unknown_customer()) for request in requests]
        book = None
        if account_id is not None:
            names = {request.entity for request in requests if request.entity is not None}
            [book] = await book_store.lock(tx, org_id, [account_id], names)
        systems = await system_store.get_systems(tx, org_id)
        self._books.remember_systems(queue, systems)
        outcomes: list[tuple[Request, Answer | NozleError]] = []
        for request in requests:
            outcomes.append((request, await self._decide_one(tx, request, book, systems)))
        if book is not None:
            await book_store.save(tx, self._bus, [book])
        return outcomes

    async def _decide_one(
        self, tx: Tx, request: Request, book: Book | None, systems: Systems
    ) -> Answer | NozleError:
        claim = request.claim
        try:
            stored = None if claim is None else await idempotency.find_answer(tx, claim)
            if stored is not None:
                return Answer(stored.status, stored.response, replayed=True)
            if systems.choose(request.credit_system, request.feature) != request.account[1]:
                raise Unavailable("the credit system of this feature has just changed, try again")
            outcome = request.decide(book, systems.test_now or request.received_at)
            answer = request.encode(outcome)
        except NozleError as refusal:
            return refusal
        if request.also is not None:
            if book is not None:
                await book_store.save(tx, self._bus, [book])
            await request.also(tx, outcome)
        if claim is not None:
            await idempotency.keep_answer(
                tx, claim, status=answer.status, response=answer.body, real_now=request.received_at
            )
        return answer


def _together(lane: deque[Request]) -> list[Request]:
    """What a lane does next: one request that has more to do in its transaction, or as many others as there are."""
    if lane[0].also is not None:
        return [lane.popleft()]
    together: list[Request] = []
    while lane and lane[0].also is None and len(together) < MAX_BATCH:
        together.append(lane.popleft())
    return together
