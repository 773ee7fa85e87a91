"""Deductions and holds decided and written together: one transaction a batch, and one batch at a time an organization.

A batch decides in order of arrival over copies of the accounts (`Book`), kept from batch to batch, and writes everything in
one statement that compares the versions of the accounts under their row locks (`entry_writes`). Nobody is answered before
that has committed. Who asks meanwhile is decided at once, over the books as they will be then, and goes into the next batch;
where the one before was not written, what was decided ahead of it is decided anew.

An account that another process has changed meanwhile is loaded and decided anew in the next batch. One whose row
somebody else holds, or whose key was used before, leaves the batch for a lane of its own: an ordinary transaction that
locks the row, waiting up to the lock timeout, while the others go on. See docs/decisions/0009.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.errors import NozleError, Unavailable
from nozle_server.credits import book_writes, entry_writes, system_store
from nozle_server.credits.account_lanes import AccountLanes
from nozle_server.credits.book import Book
from nozle_server.credits.entry_writes import Statement
from nozle_server.credits.group_batch import Batch, accounts_of, decide_one
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
from nozle_server.infra.batch import batch as batched
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Database, Tx, within_transaction
from nozle_server.infra.idempotency import Claim

MAX_WAITING = 20_000
"""Requests of one process that wait to be decided; more are refused at once."""
KEPT_ORGANIZATIONS = 1_000
ROUNDS = 2
"""Batches that an account is tried in before it goes a lane of its own."""


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
            if request.claim is not None:
                await self._take_key(request, request.claim)
            # Nothing waits between the two: a queue that nobody waits in may be forgotten, and there must not be two.
            self._enqueue(self._queue_of(request.org_id), request)
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
                idle = {one.org_id for one in self._queues.values() if one.idle}
                for each in idle:
                    del self._queues[each]
                self._books.drop_organizations(idle)  # nobody knows any more of which version they are
            queue = self._queues[org_id] = Queue(org_id)
        return queue

    def _enqueue(self, queue: Queue, request: Request) -> None:
        self._arrived += 1
        request.place = self._arrived
        if not self._decide_ahead(queue, request):
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
            while queue.ahead or queue.waiting:
                batch, queue.ahead = queue.ahead, None
                chosen: list[Request] = []
                if not batch:
                    remembered = queue.systems
                    systems = remembered or await self._load_systems(queue)
                    if systems is None:
                        return
                    chosen = self._choose(queue, systems, sure=remembered is None)
                    batch = Batch(systems)
                if batch or chosen:
                    await self._commit(queue, batch, chosen)
        finally:
            queue.working = False
            self._take_back(queue)
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

    async def _commit(self, queue: Queue, batch: Batch, chosen: Sequence[Request]) -> None:
        """Decide what was `chosen`, write the batch, and answer it."""
        sent = False
        try:
            async with asyncio.timeout(DEADLINE_S), self._database.connection() as connection:
                again = await self._decide(connection, queue, batch, chosen)
                await connection.replan(len(batch))
                statement = batch.send(self._bus.origin, queue.org_id)
                sent = True
                if not queue.waiting:
                    queue.ahead = Batch(batch.systems)
                written = set() if statement is None else await self._write(connection, batch, statement)
        except BaseException as fault:
            self._take_back(queue)
            requests = list(dict.fromkeys((*chosen, *batch.requests)))
            for account in accounts_of(requests):
                self._books.drop(queue.org_id, account)
            queue.systems = None
            if sent and not _rolled_back(fault):
                self._database.doubt(batch.publications())
            if not isinstance(fault, Exception):
                for request in requests:
                    request.resolve(Unavailable("the server is stopping, try again"))
                raise
            undecided = not sent and not isinstance(fault, NozleError | TimeoutError)
            if not undecided and not _rolled_back(fault):
                for request in requests:
                    request.resolve(as_refusal(fault))
                return
            # Nothing of it is there. One account at a time, so that what failed fails alone.
            for account in accounts_of(requests):
                mine = [each for each in requests if each.account == account and not each.done.done()]
                if mine:
                    self._lanes.open(queue, account, mine)
        else:
            self._tell(queue, batch, written, again)

    async def _decide(
        self, connection: Tx, queue: Queue, batch: Batch, chosen: Sequence[Request]
    ) -> list[Request]:
        """Decide in order of arrival. Who has no account is answered at once, by what was found just now; those who cannot
        be, because they need their key kept or have been taken to the wrong account, are returned: they go again."""
        again: list[Request] = []
        books = await self._books.find(connection, queue.org_id, chosen) if chosen else {}
        for request in chosen:
            found = books[request.account]
            if isinstance(found, Book):
                batch.decide(request, found)
            elif not found.known:
                request.resolve(unknown_customer())
            elif (found.systems_version, found.test_now) != (batch.systems.version, batch.systems.test_now):
                queue.systems = None
                again.append(request)
            else:
                outcome = decide_one(request, None, batch.systems)
                if request.claim is None or not isinstance(outcome, Answer):
                    request.resolve(outcome)
                else:
                    request.rounds = ROUNDS
                    again.append(request)
        return again

    async def _write(self, connection: Tx, batch: Batch, statement: Statement) -> set[UUID]:
        """Write all that was decided; the ids of the accounts for which it is written, or still true."""
        rest = batch.rest()
        if not rest:
            return await entry_writes.write(connection, statement)
        async with within_transaction(connection), batched(connection):
            written = await entry_writes.write(connection, statement)
            held = [(account, changes) for account, changes in rest if account.id in written]
            await book_writes.write_rest(connection, self._bus.origin, held)
        return written

    def _decide_ahead(self, queue: Queue, request: Request) -> bool:
        """Decide a request while the batch before it is being written, as what follows when all of that is; what is not is
        taken back. False when it has to wait: for others before it, or for something to be loaded."""
        batch = queue.ahead
        if batch is None or queue.waiting or batch.full or request.also is not None:
            return False
        try:
            request.route(batch.systems)
        except NozleError:
            return False  # its system may be a new one
        account = request.account
        if account in queue.lanes:
            queue.lanes[account].append(request)
            return True
        book = self._books.get(queue.org_id, account, request.entity)
        if book is None:
            return False
        try:
            batch.decide(request, book)
        except Exception:  # noqa: BLE001  # it fails again when it is its turn, and is told then
            self._books.drop(queue.org_id, account)
            _wait_again(queue, batch.take_back(account))
            return False
        return True

    def _take_back(self, queue: Queue) -> None:
        """What was decided ahead is not true: it waits again."""
        batch, queue.ahead = queue.ahead, None
        if batch is not None:
            for account in batch.decided:
                self._books.drop(queue.org_id, account)
            _wait_again(queue, batch.requests)

    def _tell(self, queue: Queue, batch: Batch, written: set[UUID], again: list[Request]) -> None:
        """Answer what is written. What is not goes again, as do those who could not be decided, and what was decided ahead
        over it."""
        for account, one in batch.decided.items():
            if one.book.account.id in written:
                for request, outcome in one.outcomes:
                    request.resolve(outcome)
                continue
            self._books.drop(queue.org_id, account)
            queue.systems = None  # or the clock was turned
            for request in one.requests:
                request.rounds += 1
            again += one.requests
            if queue.ahead is not None:
                again += queue.ahead.take_back(account)
        _wait_again(queue, again)
        self._database.committed(batch.publications(written))


def _wait_again(queue: Queue, requests: Iterable[Request]) -> None:
    """In front of those who wait, in the order in which they arrived."""
    queue.waiting.extendleft(sorted(requests, key=lambda one: one.place, reverse=True))


def _rolled_back(fault: BaseException) -> bool:
    """Whether the database itself said that nothing of it is there."""
    if isinstance(fault, Unavailable):
        return fault.code == "lock_timeout"
    return isinstance(fault, asyncpg.PostgresError)
