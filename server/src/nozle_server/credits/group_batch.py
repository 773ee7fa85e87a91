"""A batch: what is decided together over copies of the accounts, and written by one statement."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from nozle_server.core.errors import NozleError
from nozle_server.credits import entry_writes, events
from nozle_server.credits.book import Book, Changes
from nozle_server.credits.entry_writes import Answered, Statement
from nozle_server.credits.group_request import MAX_BATCH, AccountKey, Answer, Request
from nozle_server.credits.model import Account
from nozle_server.credits.system_store import Systems
from nozle_server.infra.change_bus import Publication


@dataclass(slots=True)
class Decided:
    """What a batch has decided over one account, to be told when it is written."""

    book: Book
    outcomes: list[tuple[Request, Answer | NozleError]] = field(default_factory=list)
    sent: Changes | None = None

    @property
    def requests(self) -> list[Request]:
        return [request for request, _ in self.outcomes]


class Batch:
    """Requests of one organization, decided over its systems and its clock; first decided, then sent, then told."""

    def __init__(self, systems: Systems) -> None:
        self.systems = systems
        self.decided: dict[AccountKey, Decided] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= MAX_BATCH

    @property
    def requests(self) -> list[Request]:
        return [request for one in self.decided.values() for request in one.requests]

    def decide(self, request: Request, book: Book) -> None:
        """Decide one more, after those that were decided before. What is raised but a NozleError is a fault of ours: the
        book is not to be trusted then."""
        outcome = decide_one(request, book, self.systems)
        one = self.decided.get(request.account)
        if one is None:
            one = self.decided[request.account] = Decided(book)
        assert one.book is book, "all of a batch about one account is decided over one copy"
        one.outcomes.append((request, outcome))
        self._count += 1

    def take_back(self, account: AccountKey) -> list[Request]:
        """The requests about an account, which are not in it any more."""
        one = self.decided.pop(account, None)
        requests = [] if one is None else one.requests
        self._count -= len(requests)
        return requests

    def send(self, origin: UUID, org_id: UUID) -> Statement | None:
        """What writes all of it; None when there is nothing to be written or compared. The books go on from there."""
        if not self.decided:
            return None
        changing = [one for one in self.decided.values() if one.book.changes.entries]
        changed = [one.book for one in changing]
        seen = [one.book for one in self.decided.values() if not one.book.changes.entries]
        for book in changed:
            book.look()
        answers = [
            Answered(request.claim, one.book.account.id, answer.status, answer.body, request.received_at)
            for one in self.decided.values()
            for request, answer in one.outcomes
            if request.claim is not None and isinstance(answer, Answer)
        ]
        statement = entry_writes.prepare(origin, org_id, changed, answers, seen=seen, systems=self.systems)
        for one in changing:
            one.sent = one.book.sent()
        return statement

    def rest(self) -> list[tuple[Account, Changes]]:
        """What was sent of accounts that need more written than entries."""
        sent = ((one.book.account, one.sent) for one in self.decided.values())
        return [(account, changes) for account, changes in sent if changes is not None and not changes.plain]

    def publications(self, written: Container[UUID] | None = None) -> list[Publication]:
        """What is announced of the accounts that are written; of all that were sent, where nobody knows."""
        facts: list[Publication] = []
        for one in self.decided.values():
            account = one.book.account
            if one.sent is not None and (written is None or account.id in written):
                facts += events.publications(account, one.sent)
        return facts


def decide_one(request: Request, book: Book | None, systems: Systems) -> Answer | NozleError:
    """What a request is answered over a book, or where the customer never had credits."""
    try:
        return request.encode(request.decide(book, systems.test_now or request.received_at))
    except NozleError as refusal:
        return refusal


def accounts_of(requests: Sequence[Request]) -> list[AccountKey]:
    """The accounts that requests are about, each once, in order of arrival."""
    return list(dict.fromkeys(request.account for request in requests))
