"""Deductions and holds decided and written together: one transaction a batch, and one batch at a time an organization.

Whoever asks while a batch is being committed goes into the next one. A batch decides in order of arrival over copies of
the accounts (`Book`), kept from batch to batch, and writes everything in one statement that compares the versions of
the accounts under their row locks (`book_store.write_entries`). Nobody is answered before that has committed.

An account that another process has changed meanwhile is loaded and decided anew in the next batch. One whose row
somebody else holds, or whose key was used before, leaves the batch for a lane of its own: an ordinary transaction that
locks the row, waiting up to the lock timeout, while the others go on. See docs/decisions/0009.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.core.errors import NozleError, Unavailable
from nozle_server.credits import book_store
from nozle_server.credits.book import Book
from nozle_server.credits.book_store import Answered, Systems
from nozle_server.customers.queries import unknown_customer
from nozle_server.infra import idempotency
from nozle_server.infra.batch import batch
from nozle_server.infra.change_bus import ChangeBus, Publication
from nozle_server.infra.database import LOCK_TIMEOUT_MS, Database, Tx, within_transaction
from nozle_server.infra.idempotency import Claim

MAX_BATCH = 512
MAX_WAITING = 20_000
"""Requests of one process that wait to be decided; more are refused at once."""
KEPT_ACCOUNTS = 10_000
KEPT_ORGANIZATIONS = 1_000
KEPT_LEVELS = 200
"""Entities remembered of one account; with more, its copy is loaded anew with those asked for."""
ROUNDS = 2
"""Batches that an account is tried in before it goes a lane of its own."""
DEADLINE_S = 10.0
LANES = 4
"""Lanes at work at once; the others wait, as their accounts would anyway."""

AccountKey = tuple[str, str]
"""The merchant's id of a customer, and a credit system."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered, already encoded: it is kept with the request's key before anyone sees it."""

    status: int
    body: bytes
    replayed: bool = False


@dataclass(slots=True, eq=False)
class Request:
    """One thing to be decided over one account of a customer, by the merchant's id: that of the `credit_system`, or
    where none is named that of the system which the label `feature` belongs to, else the default one.

    `decide` is told the book and the time, or no book where the customer never had credits; it may refuse by raising
    before it has changed anything. `encode` makes the answer of what it decided. `entity` is the merchant's id of the
    entity that it is about. `also` runs in the same transaction, after the decision and before the commit; `before`, which
    comes with it, ahead of the account's lock, and holds what is always held before an account.
    """

    org_id: UUID
    customer: str
    decide: Callable[[Book | None, datetime], Any]
    encode: Callable[[Any], Answer]
    received_at: datetime
    credit_system: str | None = None
    feature: str | None = None
    entity: str | None = None
    claim: Claim | None = None
    also: Callable[[Tx, Any], Awaitable[None]] | None = None
    before: Callable[[Tx], Awaitable[None]] | None = None
    done: "asyncio.Future[Answer]" = field(init=False)
    account: AccountKey = field(init=False)
    rounds: int = field(init=False, default=0)
    place: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()

    def route(self, systems: Systems) -> None:
        """Settle which account it is. NotFound `credit_system_not_found`."""
        self.account = self.customer, systems.choose(self.credit_system, self.feature)

    def resolve(self, outcome: "Answer | BaseException") -> None:
        if self.done.done():
            return
        if isinstance(outcome, Answer):
            self.done.set_result(outcome)
        else:
            self.done.set_exception(outcome)


@dataclass(slots=True)
class _Queue:
    """What waits of one organization, and the credit systems it was last seen to have."""

    org_id: UUID
    waiting: deque[Request] = field(default_factory=deque)
    lanes: dict[AccountKey, deque[Request]] = field(default_factory=dict)
    systems: Systems | None = None
    version: int | None = None
    working: bool = False

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.lanes or self.working)


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
        self._queues: dict[UUID, _Queue] = {}
        self._books: OrderedDict[tuple[UUID, AccountKey], Book] = OrderedDict()
        self._keys: dict[tuple[UUID, str, str], asyncio.Future[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lanes = asyncio.Semaphore(LANES)
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
            # Shielded: one who hangs up takes nothing back that is being written.
            return await asyncio.shield(request.done)
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
        self._books.clear()
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

    def _queue_of(self, org_id: UUID) -> _Queue:
        queue = self._queues.get(org_id)
        if queue is None:
            if len(self._queues) >= KEPT_ORGANIZATIONS:
                for idle in [one for one in self._queues.values() if one.idle]:
                    del self._queues[idle.org_id]
            queue = self._queues[org_id] = _Queue(org_id)
        return queue

    def _enqueue(self, queue: _Queue, request: Request) -> None:
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

    async def _work(self, queue: _Queue) -> None:
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
            _give_up(queue.waiting)

    async def _load_systems(self, queue: _Queue) -> Systems | None:
        """The organization's credit systems and its clock; looked up anew when a batch was refused since. None when they
        cannot be had: nobody can be served then, and everyone has been told."""
        try:
            async with asyncio.timeout(DEADLINE_S), self._database.connection() as connection:
                systems = await book_store.get_systems(connection, queue.org_id)
        except Exception as fault:  # noqa: BLE001  # everyone who waits is told
            _refuse(queue.waiting, _as_refusal(fault))
            return None
        self._remember(queue, systems)
        return systems

    def _remember(self, queue: _Queue, systems: Systems) -> None:
        """Keep an organization's systems; when something has changed that all of its accounts are decided by (its time
        zone, too), their copies are gone."""
        queue.systems = systems
        if queue.version not in (None, systems.version):
            for key in [one for one in self._books if one[0] == queue.org_id]:
                del self._books[key]
        queue.version = systems.version

    def _choose(self, queue: _Queue, systems: Systems, *, sure: bool) -> list[Request]:
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
                self._open_lane(queue, account, sorted(requests, key=lambda one: one.place))
        return chosen

    async def _commit(self, queue: _Queue, systems: Systems, chosen: Sequence[Request]) -> None:
        """Decide and write one batch, and answer it."""
        decided = None
        try:
            async with asyncio.timeout(DEADLINE_S), self._database.connection() as connection:
                books = await self._find_books(connection, queue, chosen)
                decided = _decide(chosen, books, systems.test_now)
                written = await self._write(connection, queue, systems, decided)
        except Exception as fault:  # noqa: BLE001  # everyone who waits is told
            accounts = dict.fromkeys(request.account for request in chosen)
            for account in accounts:
                self._books.pop((queue.org_id, account), None)
            queue.systems = None
            undecided = decided is None and not isinstance(fault, NozleError | TimeoutError)
            if undecided or _rolled_back(fault):
                # Nothing of it is there. One account at a time, so that what failed fails alone.
                for account in accounts:
                    mine = [each for each in chosen if each.account == account and not each.done.done()]
                    if mine:
                        self._open_lane(queue, account, mine)
                return
            for request in chosen:
                request.resolve(_as_refusal(fault))
        except BaseException:
            for request in chosen:
                request.resolve(Unavailable("the server is stopping, try again"))
            raise
        else:
            self._tell(queue, decided, written)

    async def _find_books(
        self, connection: Tx, queue: _Queue, chosen: Sequence[Request]
    ) -> dict[AccountKey, Book | None]:
        """The book of every account, with the entities asked for; those not remembered in one query. None where a
        customer has no account; nothing where there is no such customer."""
        books: dict[AccountKey, Book | None] = {}
        missing: dict[AccountKey, set[str]] = {}
        for request in chosen:
            account, entity = request.account, request.entity
            if account in missing:
                if entity is not None:
                    missing[account].add(entity)
                continue
            book = self._books.get((queue.org_id, account))
            if book is not None and (entity is None or entity in book.levels):
                books[account] = book
                continue
            books.pop(account, None)
            names = set() if book is None or len(book.levels) >= KEPT_LEVELS else set(book.levels)
            missing[account] = names if entity is None else names | {entity}
        if missing:
            wanted = [(customer, system, names) for (customer, system), names in missing.items()]
            loaded = await book_store.load(connection, queue.org_id, wanted)
            for account, found in zip(missing, loaded, strict=True):
                if found.known:
                    books[account] = found.book
        for account, book in books.items():
            if book is not None:
                self._books[queue.org_id, account] = book
                self._books.move_to_end((queue.org_id, account))
        while len(self._books) > KEPT_ACCOUNTS:
            self._books.popitem(last=False)
        return books

    async def _write(
        self, connection: Tx, queue: _Queue, systems: Systems, decided: dict[AccountKey, _Decided]
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
            return await book_store.write_entries(
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
            await book_store.write_rest(connection, self._bus.origin, held)
        return written

    def _tell(self, queue: _Queue, decided: dict[AccountKey, _Decided], written: set[UUID]) -> None:
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
                self._books.pop((queue.org_id, account), None)
                queue.systems = None  # or the clock was turned
                again += [request for request, _ in one.outcomes]
            else:
                if one.book.changes.entries:
                    facts += book_store.publications(one.book)
                    one.book.saved()
                for request, outcome in one.outcomes:
                    request.resolve(outcome)
        self._database.committed(facts)
        for request in reversed(again):
            request.rounds += 1
            queue.waiting.appendleft(request)

    def _open_lane(self, queue: _Queue, account: AccountKey, requests: Iterable[Request]) -> None:
        if account in queue.lanes:
            queue.lanes[account].extend(requests)
            return
        queue.lanes[account] = deque(requests)
        self._start(self._drive(queue, account))

    async def _drive(self, queue: _Queue, account: AccountKey) -> None:
        """A lane: everything that waits for one account, in transactions that lock it, until nothing does."""
        lane = queue.lanes[account]
        try:
            while lane:
                try:
                    async with asyncio.timeout(LOCK_TIMEOUT_MS / 1000):
                        await self._lanes.acquire()
                except TimeoutError:
                    for request in _together(lane):
                        request.resolve(Unavailable("the database is busy, try again", code="too_busy"))
                    continue
                try:
                    await self._alone(queue, account, _together(lane))
                finally:
                    self._lanes.release()
        finally:
            del queue.lanes[account]
            _give_up(lane)

    async def _alone(self, queue: _Queue, account: AccountKey, requests: list[Request]) -> None:
        """Decide and write requests of one account in a transaction that holds it, and answer them."""
        self._books.pop((queue.org_id, account), None)

        async def work(tx: Tx) -> list[tuple[Request, Answer | NozleError]]:
            return await self._decide_locked(tx, queue, account, requests)

        try:
            outcomes = await self._database.run(work, deadline_s=DEADLINE_S)
        except Exception as fault:  # noqa: BLE001  # everyone who waits is told
            if len(requests) > 1 and not isinstance(fault, Unavailable):
                for request in requests:
                    await self._alone(queue, account, [request])
                return
            refusal = _as_refusal(fault)
            for request in requests:
                request.resolve(refusal)
            if isinstance(refusal, Unavailable) and refusal.code == "lock_timeout":
                # Who came later has waited for the same row, and is not made to wait as long again.
                _refuse(queue.lanes[account], refusal)
        except BaseException:
            for request in requests:
                request.resolve(Unavailable("the server is stopping, try again"))
            raise
        else:
            for request, outcome in outcomes:
                request.resolve(outcome)

    async def _decide_locked(
        self, tx: Tx, queue: _Queue, account: AccountKey, requests: Sequence[Request]
    ) -> list[tuple[Request, Answer | NozleError]]:
        org_id = queue.org_id
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
        systems = await book_store.get_systems(tx, org_id)
        self._remember(queue, systems)
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


def _together(lane: deque[Request]) -> list[Request]:
    """What a lane does next: one request that has more to do in its transaction, or as many others as there are."""
    if lane[0].also is not None:
        return [lane.popleft()]
    together: list[Request] = []
    while lane and lane[0].also is None and len(together) < MAX_BATCH:
        together.append(lane.popleft())
    return together


def _refuse(waiting: deque[Request], refusal: Exception) -> None:
    """Tell all that wait, who then wait no longer: what was refused is not decided afterwards."""
    while waiting:
        waiting.popleft().resolve(refusal)


def _give_up(waiting: deque[Request]) -> None:
    """For what should be impossible: nobody waits for ever."""
    _refuse(waiting, Unavailable("this could not be decided, try again"))


def _rolled_back(fault: Exception) -> bool:
    """Whether the database itself said that nothing of it is there."""
    if isinstance(fault, Unavailable):
        return fault.code == "lock_timeout"
    return isinstance(fault, asyncpg.PostgresError)


def _as_refusal(fault: Exception) -> Exception:
    if isinstance(fault, TimeoutError):
        return Unavailable("the database takes too long, try again", code="database_unavailable")
    return fault
