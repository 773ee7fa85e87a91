"""The books that a process remembers from batch to batch, those used last."""

from collections import OrderedDict
from collections.abc import Container, Sequence
from uuid import UUID

from nozle_server.credits import book_store
from nozle_server.credits.book import Book
from nozle_server.credits.book_store import Loaded
from nozle_server.credits.group_queue import Queue
from nozle_server.credits.group_request import AccountKey, Request
from nozle_server.credits.system_store import Systems
from nozle_server.infra.database import Tx

KEPT_ACCOUNTS = 10_000
KEPT_LEVELS = 200
"""Entities remembered of one account; with more, its copy is loaded anew with those asked for."""


class KeptBooks:
    """Copies of accounts. Whoever writes one has its version compared, so that one which is stale does no harm."""

    def __init__(self) -> None:
        self._books: OrderedDict[tuple[UUID, AccountKey], Book] = OrderedDict()

    async def find(
        self, connection: Tx, org_id: UUID, chosen: Sequence[Request]
    ) -> dict[AccountKey, Book | Loaded]:
        """The book of every account, with the entities asked for; those not remembered in one query. Where there is none,
        what was found in its place: nothing of it is remembered."""
        books: dict[AccountKey, Book | Loaded] = {}
        missing: dict[AccountKey, set[str]] = {}
        for request in chosen:
            account, entity = request.account, request.entity
            if account in missing:
                if entity is not None:
                    missing[account].add(entity)
                continue
            if (kept := self.get(org_id, account, entity)) is not None:
                books[account] = kept
                continue
            books.pop(account, None)
            book = self._books.get((org_id, account))
            names = set() if book is None or len(book.levels) >= KEPT_LEVELS else set(book.levels)
            missing[account] = names if entity is None else names | {entity}
        if missing:
            wanted = [(customer, system, names) for (customer, system), names in missing.items()]
            loaded = await book_store.load(connection, org_id, wanted)
            for account, found in zip(missing, loaded, strict=True):
                books[account] = found.book or found
        for account, one in books.items():
            if isinstance(one, Book):
                self._books[org_id, account] = one
                self._books.move_to_end((org_id, account))
        while len(self._books) > KEPT_ACCOUNTS:
            self._books.popitem(last=False)
        return books

    def get(self, org_id: UUID, account: AccountKey, entity: str | None) -> Book | None:
        """The book of an account, where it is remembered with this entity."""
        book = self._books.get((org_id, account))
        if book is None or (entity is not None and entity not in book.levels):
            return None
        self._books.move_to_end((org_id, account))
        return book

    def drop(self, org_id: UUID, account: AccountKey) -> None:
        """What is known of an account is not to be trusted any more."""
        self._books.pop((org_id, account), None)

    def drop_organizations(self, org_ids: Container[UUID]) -> None:
        """As `drop`, of all accounts of these."""
        for key in [one for one in self._books if one[0] in org_ids]:
            del self._books[key]

    def drop_all(self) -> None:
        """As `drop`, of all accounts."""
        self._books.clear()

    def remember_systems(self, queue: Queue, systems: Systems) -> None:
        """Keep an organization's systems; when something has changed that all of its accounts are decided by (its time
        zone, too), their copies are gone."""
        queue.systems = systems
        if queue.version not in (None, systems.version):
            self.drop_organizations({queue.org_id})
        queue.version = systems.version
