"""Wallets pay invoices, and get back what void ones had taken."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.customers import store as customers_store
from nozle_server.infra import due
from nozle_server.infra.batch import batch
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx
from nozle_server.wallets import store, transaction_store
from nozle_server.wallets.allocation import plan_uses
from nozle_server.wallets.conversion import from_cents, spendable_cents
from nozle_server.wallets.model import Reason, Trigger, Wallet, WalletLine, WalletUse
from nozle_server.wallets.operations.transactions import return_money, spend_money
from nozle_server.wallets.queries import is_live, list_live_wallets, lock_wallet

WALLET_THRESHOLD = "wallet_threshold"
"""The due item that looks whether a wallet's rule must top it up."""


async def apply_to_invoice(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    invoice_id: UUID,
    currency: str,
    lines: Sequence[WalletLine],
    amount_cents: int,
    now: datetime,
) -> tuple[WalletUse, ...]:
    """Pay what the customer's wallets can of `amount_cents`, which is due after taxes and credit notes.

    The lines say what for, tax included, in minor units. One outbound transaction a wallet, in the order in which they
    pay; each takes at most its whole minor units, so that none goes below zero, and their sum is at most
    `amount_cents`. The customer's row is held from here on, so invoices made at once take turns. The database refuses a
    second use of a wallet by one invoice.
    """
    if amount_cents <= 0 or not await store.list_active(tx, org_id, customer_id):
        return ()
    await customers_store.lock_by_id(tx, org_id, customer_id)
    wallets = [
        one for one in await list_live_wallets(tx, org_id, customer_id, now) if one.currency == currency
    ]
    uses = []
    for wallet, cents in plan_uses(wallets, lines, amount_cents):
        spent = await spend_money(
            tx, bus, wallet, from_cents(cents, currency), invoice_id=invoice_id, now=now
        )
        uses.append(WalletUse(wallet.id, spent.id, cents))
        await schedule_threshold(tx, wallet, now)
    return tuple(uses)


async def give_back_to_wallet(
    tx: Tx, bus: ChangeBus, *, org_id: UUID, invoice_id: UUID, now: datetime
) -> tuple[WalletUse, ...]:
    """Give back what wallets had paid of an invoice that is being voided, as free credits; once, however often it is
    asked for. A wallet that has ended gets nothing back: it could not spend it."""
    uses = []
    for used in await transaction_store.list_of_invoice(tx, org_id, invoice_id):
        if used.reason is not Reason.INVOICED:
            continue
        wallet = await lock_wallet(tx, org_id, used.wallet_id)
        if not is_live(wallet, now) or await transaction_store.is_returned(tx, org_id, invoice_id, wallet.id):
            continue
        returned = await return_money(tx, bus, wallet, used, now=now)
        uses.append(WalletUse(wallet.id, returned.id, spendable_cents(used.amount, wallet.currency)))
    return tuple(uses)


async def schedule_threshold(tx: Tx, wallet: Wallet, now: datetime) -> None:
    """Have the wallet's threshold looked at, when it has one: money left it, or usage grew."""
    rule = wallet.live_rule(now)
    if rule is not None and rule.trigger is Trigger.THRESHOLD:
        await due.schedule(
            tx, org_id=wallet.org_id, kind=WALLET_THRESHOLD, subject_id=wallet.id, due_at=now, now=now
        )


async def schedule_thresholds(tx: Tx, org_id: UUID, now: datetime) -> None:
    """Have all thresholds of an organization looked at: usage may have grown since they were."""
    async with batch(tx):
        for wallet_id in await store.list_with_thresholds(tx, org_id):
            await due.schedule(
                tx, org_id=org_id, kind=WALLET_THRESHOLD, subject_id=wallet_id, due_at=now, now=now
            )
