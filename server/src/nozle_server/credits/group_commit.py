"""Deductions and holds decided and written together: one transaction a batch, and one batch at a time an organization.

Whoever asks while a batch is being committed goes into the next one. A batch decides in order of arrival over copies of
the accounts (`Book`), kept from batch to batch, and writes everything in one statement that compares the versions of
the accounts under their row locks (`entry_writes.write_entries`). Nobody is answered before that has committed.

An account that another process has changed meanwhile is loaded and decided anew in the next batch. One whose row
somebody else holds, or whose key was used before, leaves the batch for a lane of its own: an ordinary transaction that
locks the row, waiting up to the lock timeout, while the others go on. See docs/decisions/0009.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.errors import NozleError, Unavailable
from nozle_server.credits import book_writes, entry_writes, events, system_store
from nozle_server.credits.account_lanes import AccountLanes
from nozle_server.credits.book import Book
from nozle_server.credits.entry_writes import Answered
from nozle_server.credits.group_request import (
    DEADLINE_S,
    MAX_BATCH,
    AccountKey,
    Answer,
    Queue,
    Request,
    as_refusal,
    give_up,
    refuse,
)
from nozle_server.credits.kept_books import KeptBooks
from nozle_server.credits.system_store import Systems
from nozle_server.customers.queries import unknown_customer
from nozle_server.infra import idempotency
from nozle_server.infra.batch import batch
from nozle_server.infra.change_bus import ChangeBus, Publication
from nozle_server.infra.database import Database, Tx, within_transaction
from nozle_server.infra.idempotency import Claim

MAX_WAITING = 20_000
"""Requests of one process that wait to be decided; more are refused at once."""
KEPT_ORGANIZATIONS = 1_000
ROUNDS = 2
"""Batches that an account is tried in before it goes a lane of its own."""


@dataclass(slots=True)
class _Decided:
    """What a batch has decided over one account, to be told when it is written. No book: no account."""

    book: Book | None
    outcomes: list[tuple[Request, Answer | NozleError]] = field(default_factory=list)


class GroupCommit:
    """The one place of a process where deductions and holds are decided and written."""

    def __init__(self, database: Database, bus: ChangeBus) -> None:
        """`database` is a pool of its own, so that no slow query elsewhere keeps a deduction waiting."""
        self._database = database
        self._bus = bus
        self._queues: dict[UUID, Queue] = {}
        self._books = KeptBooks()
        self._keys: dict[tuple[UUID, str, str], asyncio.Future[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lanes = AccountLanes(database, bus, self._books, self._start)
        self._waiting = 0
        self._arrived = 0

    async def submit(self, request: Request) -> Answer:
        """The answer to a request, once it is committed.

        Raises what `decide` raised; NotFound for an unknown customer; Unavailable when the account is held by somebody
        else, or when nobody can say whether it was done: with an idempotency key it is safe to ask again.
        """
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many requests are waiting, try again", code="too_busy")
        self._waiting += 1
        try:
            queue = self._queue_of(request.org_id)
            if request.claim is not None:
                await self._take_key(request, request.claim)
            self._enqueue(queue, request)
            # One who hangs up takes nothing back that is being written; and its key is its own until then.
            return await (request.done if request.claim is None else asyncio.shield(request.done))
        except NozleError as refusal:
            first = None if isinstance(refusal, Unavailable) else await self._find_first(request)
            if first is None:
                raise
            return first
        finally:
            self._waiting -= 1

    async def _find_first(self, request: Request) -> Answer | None:
        """What the call was answered that had the key before: done once, a thing may be refused that asks for it again (a
        hold has ended, a customer is deleted). Conflict for another request under the key."""
        if request.claim is None:
            return None
        async with self._database.connection() as connection:
            stored = await idempotency.find_answer(connection, request.claim)
        return None if stored is None else Answer(stored.status, stored.response, replayed=True)

    def forget_all(self) -> None:
        """Distrust every copy; the versions would find out anyway."""
        self._books.drop_all()
        for queue in self._queues.values():
            queue.systems = None

    async def close(self) -> None:
        """Wait until what was asked is answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _take_key(self, request: Request, claim: Claim) -> None:
        """Have the key for this request alone: whoever comes later waits, and is then told what the first one was."""
        key = (claim.org_id, claim.operation, claim.key)
        while (first := self._keys.get(key)) is not None:
            await asyncio.wait([first])
        self._keys[key] = request.done
        request.done.add_done_callback(lambda _: self._keys.pop(key))

    def _queue_of(self, org_id: UUID) -> Queue:
        queue = self._queues.get(org_id)
        if queue is None:
            if len(self._queues) >= KEPT_ORGANIZATIONS:
                for idle in [one for one in self._queues.values() if one.idle]:
                    del self._queues[idle.org_id]
            queue = self._queues[org_id] = Queue(org_id)
        return queue

    def _enqueue(self, queue: Queue, request: Request) -> None:
        self._arrived += 1
        request.place = self._arrived
        queue.waiting.append(request)
        if not queue.working:
            queue.working = True
            self._start(self._work(queue))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, queue: Queue) -> None:
        """Batch after batch, until nothing waits."""
        try:
            while queue.waiting:
                remembered = queue.systems
                systems = remembered or await self._load_systems(queue)
                if systems is None:
                    return
                chosen = self._choose(queue, systems, sure=remembered is None)
                if chosen:
                    await self._commit(queue, systems, chosen)
        finally:
            queue.working = False
            give_up(queue.waiting)

    async def _load_systems(self, queue: Queue) -> Systems | None:
        """The organization's credit systems and its clock; looked up anew when a batch was refused since. None when they
        cannot be had: nobody can be served then, and everyone has been told."""
        try:
            async with asyncio.timeout(DEADLINE_S), self._database.connection() as connection:
                systems = await system_store.get_systems(connection, queue.org_id)
        except Exception as fault:  # noqa: BLE001  # everyone who waits is told
            refuse(queue.waiting, as_refusal(fault))
            return None
        self._books.remember_systems(queue, systems)
        return systems

    def _choose(self, queue: Queue, systems: Systems, *, sure: bool) -> list[Request]:
        """The next batch, in order of arrival. Whose account is in a lane of its own, or has to be, goes there. Who names
        no system that is known waits until it is `sure` that there is none: one may have been made meanwhile."""
        chosen: list[Request] = []
        leaving: dict[AccountKey, list[Request]] = {}
        while queue.waiting and len(chosen) < MAX_BATCH:
            request = queue.waiting.popleft()
            try:
                request.route(systems)
            except NozleError as refusal:
                if not sure:
                    queue.waiting.appendleft(request)
                    queue.systems = None
                    break
                request.resolve(refusal)
                continue
            account = request.account
            if account in queue.lanes:
                queue.lanes[account].append(request)
            elif account in leaving or request.also is not None or request.rounds >= ROUNDS:
                leaving.setdefault(account, []).append(request)
            else:
                chosen.append(request)
        if leaving:
            for request in chosen:
                if request.account in leaving:  # it was there before the one that has to leave
                    leaving[request.account].append(request)
            chosen = [request for request in chosen if request.account not in leaving]
            for account, requests in leaving.items():
                self._lanes.open(queue, account, sorted(requests, key=lambda one: one.place))
        return chosen

    async def _commit(self, queue: Queue, systems: Systems, chosen: Sequence[Request]) -> None:
        """Decide and write one batch, and answer it."""
        decided = None
        try:
            async with asyncio.timeout(DEADLINE_S), self._database.connection() as connection:
                books = await self._books.find(connection, queue.org_id, chosen)
                decided = _decide(chosen, books, systems.test_now)
                await connection.replan(len(chosen))
                written = await self._write(connection, queue, systems, decided)
        except Exception as fault:  # noqa: BLE001  # everyone who waits is told
            accounts = dict.fromkeys(request.account for request in chosen)
            for account in accounts:
                self._books.drop(queue.org_id, account)
            queue.systems = None
            undecided = decided is None and not isinstance(fault, NozleError | TimeoutError)
            if undecided or _rolled_back(fault):
                # Nothing of it is there. One account at a time, so that what failed fails alone.
                for account in accounts:
                    mine = [each for each in chosen if each.account == account and not each.answered]
                    if mine:
                        self._lanes.open(queue, account, mine)
                return
            for request in chosen:
                request.resolve(as_refusal(fault))
        except BaseException:
            for request in chosen:
                request.resolve(Unavailable("the server is stopping, try again"))
            raise
        else:
            self._tell(queue, decided, written)

    async def _write(
        self, connection: Tx, queue: Queue, systems: Systems, decided: dict[AccountKey, _Decided]
    ) -> set[UUID]:
        """Write all that was decided; the ids of the accounts for which it is written, or still true."""
        changed = [one.book for one in decided.values() if one.book and one.book.changes.entries]
        seen = [one.book for one in decided.values() if one.book and not one.book.changes.entries]
        if not changed and not seen:
            return set()
        for book in changed:
            book.look()
        answers = [
            Answered(request.claim, one.book.account.id, answer.status, answer.body, request.received_at)
            for one in decided.values()
            for request, answer in one.outcomes
            if one.book is not None and request.claim is not None and isinstance(answer, Answer)
        ]

        async def write() -> set[UUID]:
            return await entry_writes.write_entries(
                connection,
                self._bus.origin,
                queue.org_id,
                changed,
                answers,
                seen=seen,
                systems=systems,
            )

        if all(book.changes.plain for book in changed):
            return await write()
        async with within_transaction(connection), batch(connection):
            written = await write()
            held = [one for one in changed if one.account.id in written]
            await book_writes.write_rest(connection, self._bus.origin, held)
        return written

    def _tell(self, queue: Queue, decided: dict[AccountKey, _Decided], written: set[UUID]) -> None:
        """Answer what is written; what is not goes into the next batch, in front."""
        facts: list[Publication] = []
        again: list[Request] = []
        for account, one in decided.items():
            if one.book is None:
                for request, outcome in one.outcomes:
                    if request.claim is None or not isinstance(outcome, Answer):
                        request.resolve(outcome)
                    else:  # a key to be kept, and no account whose version could vouch for the answer
                        request.rounds = ROUNDS
                        again.append(request)
            elif one.book.account.id not in written:
                self._books.drop(queue.org_id, account)
                queue.systems = None  # or the clock was turned
                again += [request for request, _ in one.outcomes]
            else:
                if one.book.changes.entries:
                    facts += events.publications(one.book)
                    one.book.saved()
                for request, outcome in one.outcomes:
                    request.resolve(outcome)
        self._database.committed(facts)
        for request in reversed(again):
            request.rounds += 1
            queue.waiting.appendleft(request)


def _decide(
    chosen: Sequence[Request], books: dict[AccountKey, Book | None], test_now: datetime | None
) -> dict[AccountKey, _Decided]:
    """Decide in order of arrival."""
    decided: dict[AccountKey, _Decided] = {}
    for request in chosen:
        if request.account not in books:
            request.resolve(unknown_customer())
            continue
        book = books[request.account]
        try:
            outcome: Answer | NozleError = request.encode(
                request.decide(book, test_now or request.received_at)
            )
        except NozleError as refusal:
            outcome = refusal
        decided.setdefault(request.account, _Decided(book)).outcomes.append((request, outcome))
    return decided


def _rolled_back(fault: Exception) -> bool:
    """Whether the database itself said that nothing of it is there."""
    if isinstance(fault, Unavailable):
        return fault.code == "lock_timeout"
    return isinstance(fault, asyncpg.PostgresError)
