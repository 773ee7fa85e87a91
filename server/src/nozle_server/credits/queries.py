"""Use cases that only look at credits."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.core.errors import NotFound
from nozle_server.credits import book_store, hold_store, store
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Balance, Entry, EntryType, HoldRecord, HoldStatus
from nozle_server.customers.queries import unknown_customer
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
        return Balance(ZERO, ZERO, ZERO, ZERO, None, now, credit_system=credit_system)
    totals = book.totals
    return Balance(
        available=book.balance,
        granted=totals[EntryType.GRANT],
        consumed=totals[EntryType.DEDUCT],
        expired=totals[EntryType.EXPIRE],
        account_id=book.account.id,
        as_of=now,
        shared=book.available(),
        held=totals[EntryType.HOLD],
        receivable=book.receivable,
        credit_system=credit_system,
    )


async def list_transactions(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    before: int | None,
    limit: int,
    credit_system: str = DEFAULT_CREDIT_SYSTEM,
) -> tuple[list[Entry], int | None]:
    """A page of an account's entries, newest first, and where the next page starts (None: there is none)."""
    account_id = await store.find_account_id(tx, org_id, customer_id, credit_system)
    if account_id is None:
        return [], None
    entries = await store.list_entries(tx, org_id, account_id, before=before, limit=limit + 1)
    if len(entries) <= limit:
        return entries, None
    return entries[:limit], entries[limit - 1].sequence


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
