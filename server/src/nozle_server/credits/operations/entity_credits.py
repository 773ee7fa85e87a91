"""Credits of a customer's entities: top-ups given to one and returned, and what becomes of them when it ends."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.credits import book_store, giving, store
from nozle_server.credits.book import Book
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx


async def close_entities(
    tx: Tx, bus: ChangeBus, *, org_id: UUID, customer_id: UUID, entity_ids: Sequence[UUID], now: datetime
) -> None:
    """What suspending or deleting entities brings, in every credit system: the top-ups allocated to them return to the
    customer's grants that they came from, their other grants expire."""
    for book in await _books(tx, org_id, customer_id, entity_ids):
        for entity_id in entity_ids:
            giving.close_entity(book, entity_id, now)
        await book_store.save(tx, bus, [book])
    await book_store.touch(tx, org_id, customer_id)


async def _books(tx: Tx, org_id: UUID, customer_id: UUID, entity_ids: Sequence[UUID]) -> list[Book]:
    account_ids = await store.list_account_ids(tx, org_id, customer_id)
    books = await book_store.lock(tx, org_id, account_ids)
    for book in books:
        book.know_spent(await store.list_parents(tx, org_id, book.account.id, entity_ids))
    return books
