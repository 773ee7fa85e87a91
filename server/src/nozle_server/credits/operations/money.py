"""The money of wallets, in accounts of their own; `wallets/` says what it is for."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.credits import book_store, giving
from nozle_server.credits.model import AccountKind, Entry, EntryType, Grant, GrantSource
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx


async def open_money_account(
    tx: Tx, *, org_id: UUID, customer_id: UUID, wallet_id: UUID, now: datetime
) -> UUID:
    """A new account for the money of a wallet; its id. No endpoint of credits ever sees it."""
    return await book_store.ensure_account(
        tx, org_id, customer_id, str(wallet_id), new_id(), now, kind=AccountKind.MONEY
    )


async def put_money(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    account_id: UUID,
    amount: Decimal,
    source: GrantSource,
    priority: int,
    description: str | None,
    now: datetime,
) -> tuple[Grant, Entry]:
    """Give an account `amount` of money, in major units; a lower `priority` is spent earlier."""
    [book] = await book_store.lock(tx, org_id, [account_id])
    grant = giving.a_grant(amount, source, now, priority=priority, description=description)
    entry = giving.give(book, grant, now)
    await book_store.save(tx, bus, [book])
    return grant, entry


async def take_money(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    account_id: UUID,
    amount: Decimal,
    kind: EntryType,
    description: str | None,
    now: datetime,
) -> Entry | None:
    """Take `amount` of money, in major units, as an entry of `kind`; None, and nothing is taken, when there is less."""
    [book] = await book_store.lock(tx, org_id, [account_id])
    draws, missing = book.draw((None,), amount)
    if missing:
        return None
    entry = book.take(kind, draws, now, description=description)
    await book_store.save(tx, bus, [book])
    return entry
