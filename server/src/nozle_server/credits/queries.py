"""Use cases that only look at credits."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import localcontext
from uuid import UUID

from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.core.errors import NotFound
from nozle_server.core.rounding import EXACT
from nozle_server.credits import book_store, grant_store, history_store, hold_store, store
from nozle_server.credits.book import Book
from nozle_server.credits.grant_store import ShownGrant
from nozle_server.credits.history_store import EntryFilter, ShownEntry, Statement
from nozle_server.credits.model import ZERO, Balance, Entry, EntryType, Grant, HoldRecord, HoldStatus
from nozle_server.customers.queries import unknown_customer
from nozle_server.entities.queries import list_chain
from nozle_server.infra.database import Tx


async def find_book(
    tx: Tx,
    *,
    org_id: UUID,
    customer: str,
    now: datetime,
    credit_system: str = DEFAULT_CREDIT_SYSTEM,
    entities: Iterable[str] = (),
) -> Book | None:
    """An account as it stands at `now`, to look at: what is over has ended in it, whether that is written yet or not.
    None when the customer never had credits; NotFound when it is nobody's id."""
    [loaded] = await book_store.load(tx, org_id, [(customer, credit_system, entities)])
    if not loaded.known:
        raise unknown_customer()
    if loaded.book is not None:
        loaded.book.advance(now)
    return loaded.book


async def get_balance(
    tx: Tx, *, org_id: UUID, customer: str, now: datetime, credit_system: str = DEFAULT_CREDIT_SYSTEM
) -> Balance:
    """What the customer, by the merchant's id, can spend at `now`. NotFound when it is nobody's."""
    book = await find_book(tx, org_id=org_id, customer=customer, now=now, credit_system=credit_system)
    if book is None:
        return Balance(credit_system, None, now)
    totals = book.totals
    return Balance(
        credit_system=credit_system,
        account_id=book.account.id,
        as_of=now,
        available=book.balance,
        shared=book.available(),
        held=totals[EntryType.HOLD],
        receivable=book.receivable,
        granted=totals[EntryType.GRANT],
        consumed=totals[EntryType.DEDUCT],
        expired=totals[EntryType.EXPIRE],
        voided=totals[EntryType.VOID],
        refunded=totals[EntryType.REFUND],
        adjusted=totals[EntryType.ADJUSTMENT],
        transferred=totals[EntryType.TRANSFER],
    )


async def list_transactions(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    wanted: EntryFilter,
    before: int | None,
    limit: int,
    draws: bool = False,
) -> tuple[list[ShownEntry], int | None]:
    """A page of an account's entries, newest first, and where the next page starts (None: there is none). With `draws`,
    also which grants each filled or drew on."""
    account_id = await store.find_account_id(tx, org_id, customer_id, credit_system)
    if account_id is None:
        return [], None
    found = await history_store.list_entries(tx, org_id, account_id, wanted, before=before, limit=limit + 1)
    page = found[:limit]
    if draws:
        page = await history_store.with_draws(tx, org_id, page)
    return page, page[-1].entry.sequence if len(found) > limit else None


async def get_hold(tx: Tx, *, org_id: UUID, customer_id: UUID, hold_id: UUID, now: datetime) -> HoldRecord:
    """A hold as it is at `now`. NotFound `hold_not_found`, also for another customer's."""
    found = await hold_store.find_hold(tx, org_id, customer_id, hold_id, now)
    if found is None:
        raise NotFound("hold not found", code="hold_not_found")
    return found


async def list_holds(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    now: datetime,
    credit_system: str | None,
    status: HoldStatus | None,
    before: UUID | None,
    limit: int,
) -> tuple[Sequence[HoldRecord], UUID | None]:
    """A page of a customer's holds, newest first, and after which the next page starts (None: there is none)."""
    found = await hold_store.list_holds(
        tx,
        org_id,
        customer_id,
        now,
        credit_system=credit_system,
        status=status,
        before=before,
        limit=limit + 1,
    )
    return (found, None) if len(found) <= limit else (found[:limit], found[limit - 1].id)


async def get_statement(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    start: datetime | None,
    end: datetime | None,
) -> Statement:
    """What there was before `start`, what moved until `end`, and what that comes to."""
    account_id = await store.find_account_id(tx, org_id, customer_id, credit_system)
    if account_id is None:
        return Statement(ZERO, ZERO)
    statement = await history_store.read_statement(tx, org_id, account_id, start, end)
    with localcontext(EXACT):
        moved = sum((one.amount for one in statement.by_type), ZERO)
        assert statement.opening + moved == statement.closing, "what moved is the difference"
    return statement


async def list_grants(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    now: datetime,
    live: bool,
    entity: str | None,
    before: UUID | None,
    limit: int,
) -> tuple[Sequence[ShownGrant], UUID | None]:
    """A page of a customer's grants of one credit system, newest first, and after which the next page starts (None: there is
    none). `live`: only those that can be spent at `now`."""
    account_id = await store.find_account_id(tx, org_id, customer_id, credit_system)
    if account_id is None:
        return [], None
    found = await grant_store.list_page(
        tx, org_id, account_id, now, live=live, entity=entity, before=before, limit=limit + 1
    )
    return (found, None) if len(found) <= limit else (found[:limit], found[limit - 1].grant.id)


async def show_grant(tx: Tx, org_id: UUID, grant: Grant) -> ShownGrant:
    """A grant, and the merchant's id of the entity whose it is."""
    return ShownGrant(grant, await _name_of(tx, org_id, grant.entity_id))


async def show_entry(tx: Tx, org_id: UUID, entry: Entry) -> ShownEntry:
    """An entry with the grants that it filled or drew on, and the merchant's id of its entity."""
    entity = await _name_of(tx, org_id, entry.entity_id)
    [shown] = await history_store.with_draws(tx, org_id, [ShownEntry(entry, entity)])
    return shown


async def _name_of(tx: Tx, org_id: UUID, entity_id: UUID | None) -> str | None:
    return None if entity_id is None else (await list_chain(tx, org_id, entity_id))[0].external_id
