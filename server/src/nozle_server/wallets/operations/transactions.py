"""Fill a wallet, take from it, settle what was bought.

Each function is given a wallet that was read under the customer's lock (`queries.lock_wallet`), and checks nothing a
caller wrote: that is for `operations/wallets.py` and the workflows above.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import EntryType, GrantSource
from nozle_server.credits.operations.money import put_money, take_money
from nozle_server.infra import watches
from nozle_server.infra.change_bus import Change, ChangeBus
from nozle_server.infra.database import Tx
from nozle_server.infra.watch_kinds import WALLETS
from nozle_server.wallets import store, transaction_store
from nozle_server.wallets.conversion import credits_of, settled
from nozle_server.wallets.model import (
    LOWEST_PRIORITY,
    Direction,
    Reason,
    Source,
    Status,
    Wallet,
    WalletTransaction,
)
from nozle_server.wallets.queries import get_transaction, lock_wallet

TRANSACTION_CREATED = "wallet_transaction.created"
TRANSACTION_UPDATED = "wallet_transaction.updated"

# What was given is spent before what was bought, whatever their priorities, as Lago does.
_BOUGHT = 1000


async def buy_credits(
    tx: Tx,
    bus: ChangeBus,
    wallet: Wallet,
    credits: Decimal,
    *,
    now: datetime,
    source: Source = Source.MANUAL,
    priority: int = LOWEST_PRIORITY,
    name: str | None = None,
    metadata: Sequence[Mapping[str, str]] = (),
    invoice_requires_successful_payment: bool | None = None,
) -> WalletTransaction:
    """Credits that wait for their payment: a pending transaction of whole minor units, worth nothing until
    `settle_paid`."""
    amount = settled(EXACT.multiply(credits, wallet.rate_amount), wallet.currency)
    requires = invoice_requires_successful_payment
    transaction = _transaction(
        wallet,
        Direction.INBOUND,
        Reason.PURCHASED,
        amount,
        credits_of(amount, wallet.rate_amount),
        now,
        source=source,
        priority=priority,
        name=name,
        metadata=metadata,
        invoice_requires_successful_payment=(
            wallet.invoice_requires_successful_payment if requires is None else requires
        ),
    )
    await transaction_store.insert(tx, transaction)
    await _announce(tx, bus, TRANSACTION_CREATED, transaction)
    return transaction


async def give_credits(
    tx: Tx,
    bus: ChangeBus,
    wallet: Wallet,
    credits: Decimal,
    *,
    now: datetime,
    source: Source = Source.MANUAL,
    priority: int = LOWEST_PRIORITY,
    name: str | None = None,
    metadata: Sequence[Mapping[str, str]] = (),
) -> WalletTransaction:
    """Free credits, there at once, worth exactly what they are at the wallet's rate."""
    transaction = _transaction(
        wallet,
        Direction.INBOUND,
        Reason.GRANTED,
        EXACT.multiply(credits, wallet.rate_amount),
        credits,
        now,
        source=source,
        priority=priority,
        name=name,
        metadata=metadata,
    )
    return await _fill(tx, bus, wallet, transaction, GrantSource.MANUAL, now)


async def void_money(
    tx: Tx,
    bus: ChangeBus,
    wallet: Wallet,
    amount: Decimal,
    *,
    now: datetime,
    source: Source = Source.MANUAL,
    priority: int = LOWEST_PRIORITY,
    name: str | None = None,
    metadata: Sequence[Mapping[str, str]] = (),
    credit_note_id: UUID | None = None,
) -> WalletTransaction | None:
    """Take money, in major units, out of the wallet for nothing; None, and nothing is taken, when it holds less."""
    transaction = _transaction(
        wallet,
        Direction.OUTBOUND,
        Reason.VOIDED,
        amount,
        credits_of(amount, wallet.rate_amount),
        now,
        source=source,
        priority=priority,
        name=name,
        metadata=metadata,
    )
    transaction = replace(transaction, credit_note_id=credit_note_id)
    return await _draw(tx, bus, wallet, transaction, EntryType.VOID, now)


async def spend_money(
    tx: Tx, bus: ChangeBus, wallet: Wallet, amount: Decimal, *, invoice_id: UUID, now: datetime
) -> WalletTransaction:
    """Pay `amount` of an invoice, in major units, which the wallet is known to hold."""
    transaction = _transaction(
        wallet, Direction.OUTBOUND, Reason.INVOICED, amount, credits_of(amount, wallet.rate_amount), now
    )
    spent = await _draw(tx, bus, wallet, replace(transaction, invoice_id=invoice_id), EntryType.DEDUCT, now)
    assert spent is not None, "the balance was read under the customer's lock"
    return spent


async def return_money(
    tx: Tx, bus: ChangeBus, wallet: Wallet, used: WalletTransaction, *, now: datetime
) -> WalletTransaction:
    """Give back what the wallet had paid of an invoice that is void, as free credits; it counts as consumed no more."""
    transaction = _transaction(
        wallet, Direction.INBOUND, Reason.GRANTED, used.amount, used.credit_amount, now
    )
    transaction = replace(transaction, voided_invoice_id=used.invoice_id)
    return await _fill(
        tx, bus, wallet, transaction, GrantSource.REFUND, now, consumed=used.amount.copy_negate()
    )


async def attach_invoice(tx: Tx, *, org_id: UUID, wallet_transaction_id: UUID, invoice_id: UUID) -> None:
    """Say which invoice of type `credit` sells a pending transaction."""
    await transaction_store.attach_invoice(tx, org_id, wallet_transaction_id, invoice_id)


async def settle_paid(
    tx: Tx, bus: ChangeBus, *, org_id: UUID, wallet_transaction_id: UUID, now: datetime
) -> WalletTransaction:
    """The purchase was paid: its money is in the wallet from now on. Settled once, however often it is said; one that
    failed before is left alone. NotFound for none."""
    transaction, wallet = await _lock(tx, org_id, wallet_transaction_id)
    if transaction.status is not Status.PENDING:
        return transaction
    grant, entry = await put_money(
        tx,
        bus,
        org_id=org_id,
        account_id=wallet.account_id,
        amount=transaction.amount,
        source=GrantSource.TOP_UP,
        priority=_BOUGHT + transaction.priority,
        description=transaction.name,
        now=now,
    )
    await transaction_store.settle(tx, org_id, transaction.id, grant_id=grant.id, entry_id=entry.id, at=now)
    await _record_movement(tx, transaction, Decimal(0), wallet.customer_id, now)
    return await _updated(tx, bus, org_id, transaction.id)


async def fail_paid(
    tx: Tx, bus: ChangeBus, *, org_id: UUID, wallet_transaction_id: UUID, now: datetime
) -> WalletTransaction:
    """The purchase will not be paid. What has been settled stays: voiding it is a decision of its own."""
    transaction, _ = await _lock(tx, org_id, wallet_transaction_id)
    if transaction.status is not Status.PENDING:
        return transaction
    await transaction_store.fail(tx, org_id, transaction.id, now)
    return await _updated(tx, bus, org_id, transaction.id)


async def _lock(tx: Tx, org_id: UUID, transaction_id: UUID) -> tuple[WalletTransaction, Wallet]:
    found = await get_transaction(tx, org_id, transaction_id)
    wallet = await lock_wallet(tx, org_id, found.wallet_id)
    return await get_transaction(tx, org_id, transaction_id), wallet


async def _updated(tx: Tx, bus: ChangeBus, org_id: UUID, transaction_id: UUID) -> WalletTransaction:
    transaction = await get_transaction(tx, org_id, transaction_id)
    await _announce(tx, bus, TRANSACTION_UPDATED, transaction)
    return transaction


async def _fill(
    tx: Tx,
    bus: ChangeBus,
    wallet: Wallet,
    transaction: WalletTransaction,
    source: GrantSource,
    now: datetime,
    consumed: Decimal = Decimal(0),
) -> WalletTransaction:
    grant, entry = await put_money(
        tx,
        bus,
        org_id=wallet.org_id,
        account_id=wallet.account_id,
        amount=transaction.amount,
        source=source,
        priority=transaction.priority,
        description=transaction.name,
        now=now,
    )
    transaction = replace(
        transaction,
        status=Status.SETTLED,
        settled_at=now,
        grant_id=grant.id,
        entry_id=entry.id,
        remaining=transaction.amount,
    )
    return await _store_movement(tx, bus, transaction, consumed, wallet.customer_id)


async def _draw(
    tx: Tx, bus: ChangeBus, wallet: Wallet, transaction: WalletTransaction, kind: EntryType, now: datetime
) -> WalletTransaction | None:
    entry = await take_money(
        tx,
        bus,
        org_id=wallet.org_id,
        account_id=wallet.account_id,
        amount=transaction.amount,
        kind=kind,
        description=transaction.name,
        now=now,
    )
    if entry is None:
        return None
    transaction = replace(transaction, status=Status.SETTLED, settled_at=now, entry_id=entry.id)
    return await _store_movement(tx, bus, transaction, transaction.amount, wallet.customer_id)


async def _store_movement(
    tx: Tx, bus: ChangeBus, transaction: WalletTransaction, consumed: Decimal, customer_id: UUID
) -> WalletTransaction:
    await transaction_store.insert(tx, transaction)
    await _record_movement(tx, transaction, consumed, customer_id, transaction.created_at)
    await _announce(tx, bus, TRANSACTION_CREATED, transaction)
    return transaction


async def _record_movement(
    tx: Tx, transaction: WalletTransaction, consumed: Decimal, customer_id: UUID, at: datetime
) -> None:
    """The wallet's balance moved, up or down: who watches it has to see both, to know what it falls from the next time."""
    org_id = transaction.org_id
    await store.record_movement(tx, org_id, transaction.wallet_id, consumed=consumed, at=at)
    await watches.touch(tx, org_id, [(WALLETS, str(customer_id))], at)


def _transaction(
    wallet: Wallet,
    direction: Direction,
    reason: Reason,
    amount: Decimal,
    credits: Decimal,
    now: datetime,
    *,
    source: Source = Source.MANUAL,
    priority: int = LOWEST_PRIORITY,
    name: str | None = None,
    metadata: Sequence[Mapping[str, str]] = (),
    invoice_requires_successful_payment: bool = False,
) -> WalletTransaction:
    return WalletTransaction(
        org_id=wallet.org_id,
        id=new_id(),
        wallet_id=wallet.id,
        direction=direction,
        reason=reason,
        status=Status.PENDING,
        source=source,
        amount=amount,
        credit_amount=credits,
        priority=priority,
        name=name,
        metadata=tuple(metadata),
        invoice_requires_successful_payment=invoice_requires_successful_payment,
        invoice_id=None,
        voided_invoice_id=None,
        credit_note_id=None,
        grant_id=None,
        entry_id=None,
        settled_at=None,
        failed_at=None,
        created_at=now,
    )


async def _announce(tx: Tx, bus: ChangeBus, kind: str, transaction: WalletTransaction) -> None:
    payload = {
        "wallet_id": transaction.wallet_id,
        "transaction_type": transaction.direction,
        "transaction_status": transaction.reason,
        "status": transaction.status,
        "amount": transaction.amount,
    }
    await bus.publish(tx, Change(transaction.org_id, kind, str(transaction.id), payload))
