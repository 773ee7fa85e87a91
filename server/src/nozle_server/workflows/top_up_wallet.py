"""Fill wallets: on request, by recurring rules, and when what was bought is paid.

What is bought is invoiced (an invoice of type `credit`, without taxes, coupons or credits) and counts from its payment
on; what is given counts at once. As Lago: https://getlago.com/docs/guide/wallet-and-prepaid-credits/wallet-top-up-and-void
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.core.money import to_minor
from nozle_server.core.rounding import EXACT
from nozle_server.customers.model import Customer
from nozle_server.identity.queries import get_organization
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.model import Invoice, InvoiceLine, InvoiceType, LineKind
from nozle_server.invoicing.operations import issue_invoice
from nozle_server.invoicing.terms import lock_terms
from nozle_server.wallets import store, transaction_store
from nozle_server.wallets.balances import ongoing_credits
from nozle_server.wallets.drafts import WalletDraft, WalletTransactionDraft
from nozle_server.wallets.model import (
    LOWEST_PRIORITY,
    Reason,
    RecurringRule,
    Source,
    Status,
    Trigger,
    Wallet,
    WalletTransaction,
)
from nozle_server.wallets.operations import transactions
from nozle_server.wallets.operations.checks import (
    check_purchase,
    given_value,
    parse_credits,
    parse_entries,
    parse_name,
    parse_priority,
    refused,
    voided_value,
)
from nozle_server.wallets.operations.rules import start_rule
from nozle_server.wallets.operations.wallets import create_wallet, terminate_wallet
from nozle_server.wallets.queries import get_transaction, get_wallet, is_live, lock_wallet
from nozle_server.wallets.top_ups import TopUp, is_below_threshold, plan_top_up
from nozle_server.workflows.wallet_usage import usage_by_wallet


async def open_wallet(
    tx: Tx, seams: Seams, *, customer: Customer, draft: WalletDraft, now: datetime
) -> Wallet:
    """A new wallet of a customer whose row is held, with what the draft buys and gives."""
    organization = await get_organization(tx, customer.org_id)
    wallet = await create_wallet(
        tx,
        seams.change_bus,
        customer=customer,
        draft=draft,
        timezone=customer.timezone or organization.timezone,
        now=now,
    )
    await add_transactions(
        tx,
        seams,
        wallet=wallet,
        draft=WalletTransactionDraft(
            wallet_id=str(wallet.id),
            paid_credits=draft.paid_credits,
            granted_credits=draft.granted_credits,
            name=draft.transaction_name,
            priority=draft.transaction_priority,
            metadata=draft.transaction_metadata,
            ignore_paid_top_up_limits=draft.ignore_paid_top_up_limits_on_creation,
        ),
        now=now,
    )
    return await get_wallet(tx, wallet.org_id, wallet.id)


async def add_transactions(
    tx: Tx, seams: Seams, *, wallet: Wallet, draft: WalletTransactionDraft, now: datetime
) -> list[WalletTransaction]:
    """Buy, give and take back credits of a wallet that is held; the transactions made, at most one of each.

    InvalidInput with Lago's codes: an amount that is none, rounds to nothing, breaks the wallet's limits, or is more
    than the wallet holds; a wallet that has ended.
    """
    if not is_live(wallet, now):
        raise refused("wallet_id", "wallet_is_terminated", what="names a wallet that has ended")
    paid = parse_credits(draft.paid_credits, "paid_credits")
    granted = parse_credits(draft.granted_credits, "granted_credits")
    voided = parse_credits(draft.voided_credits, "voided_credits")
    check_purchase(paid, wallet, ignore_limits=bool(draft.ignore_paid_top_up_limits))
    given_value(granted, wallet, "granted_credits")
    name, priority = parse_name(draft.name), parse_priority(draft.priority)
    metadata = parse_entries(draft.metadata, "metadata")
    made = await _top_up(
        tx,
        seams,
        wallet,
        TopUp(paid, granted),
        now=now,
        source=Source.MANUAL,
        name=name,
        priority=priority,
        metadata=metadata,
        requires_payment=draft.invoice_requires_successful_payment,
    )
    if voided:
        void = await _void(tx, seams, wallet, voided, name, priority, metadata, now)
        made.append(void)
        await check_threshold(tx, seams, org_id=wallet.org_id, wallet_id=wallet.id, now=now)
    return made


async def settle_top_up(
    tx: Tx, seams: Seams, *, org_id: UUID, wallet_transaction_id: UUID, now: datetime
) -> WalletTransaction:
    """A purchase was paid: invoiced, where that had waited for the payment, and its money is there. Done once, however
    often it is said."""
    transaction = await get_transaction(tx, org_id, wallet_transaction_id)
    wallet = await lock_wallet(tx, org_id, transaction.wallet_id)
    transaction = await get_transaction(tx, org_id, wallet_transaction_id)
    if transaction.status is Status.PENDING and transaction.invoice_id is None:
        await _invoice(tx, seams, wallet, transaction, now)
    return await transactions.settle_paid(
        tx, seams.change_bus, org_id=org_id, wallet_transaction_id=transaction.id, now=now
    )


async def settle_invoice(tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, now: datetime) -> None:
    """An invoice was paid: of one that sells credits, they are there from now on; any other is left alone."""
    for one in await transaction_store.list_of_invoice(tx, org_id, invoice_id):
        if one.reason is Reason.PURCHASED:
            await settle_top_up(tx, seams, org_id=org_id, wallet_transaction_id=one.id, now=now)


async def fail_invoice(tx: Tx, seams: Seams, *, org_id: UUID, invoice_id: UUID, now: datetime) -> None:
    """An invoice will not be paid: what it sells fails; any other is left alone."""
    for one in await transaction_store.list_of_invoice(tx, org_id, invoice_id):
        if one.reason is Reason.PURCHASED:
            await transactions.fail_paid(
                tx, seams.change_bus, org_id=org_id, wallet_transaction_id=one.id, now=now
            )


async def run_interval_rule(tx: Tx, seams: Seams, *, org_id: UUID, rule_id: UUID, due_at: datetime) -> None:
    """An interval rule's time has come: top up, and say when next. Harmless when the rule or the wallet has ended, or
    has been changed to another time."""
    rule = await store.find_rule(tx, org_id, rule_id)
    if rule is None:
        return
    wallet = await lock_wallet(tx, org_id, rule.wallet_id)
    rule = wallet.live_rule(due_at)
    if rule is None or rule.id != rule_id or rule.next_top_up_at != due_at or not is_live(wallet, due_at):
        return
    ongoing = await _ongoing_credits(tx, seams, wallet, due_at)
    await _run(tx, seams, wallet, rule, ongoing, Source.INTERVAL, due_at)
    terms = await lock_terms(tx, org_id, wallet.customer_id)
    await start_rule(tx, org_id, rule, timezone=terms.timezone, now=due_at)


async def check_threshold(tx: Tx, seams: Seams, *, org_id: UUID, wallet_id: UUID, now: datetime) -> None:
    """Top a wallet up when its rule has a threshold and the ongoing balance, with what is bought and not paid yet, is
    at or below it. Once a look: what it buys counts in the next one."""
    wallet = await lock_wallet(tx, org_id, wallet_id)
    rule = wallet.live_rule(now)
    if rule is None or rule.trigger is not Trigger.THRESHOLD or not is_live(wallet, now):
        return
    with localcontext(EXACT):
        pending = sum(
            (one.credit_amount for one in await transaction_store.list_pending(tx, org_id, wallet.id)),
            Decimal(0),
        )
    ongoing = await _ongoing_credits(tx, seams, wallet, now)
    if is_below_threshold(rule, ongoing, pending):
        await _run(tx, seams, wallet, rule, ongoing, Source.THRESHOLD, now)


async def expire_wallet(tx: Tx, seams: Seams, *, org_id: UUID, wallet_id: UUID, now: datetime) -> None:
    """A wallet's expiration has come; harmless when that was moved meanwhile."""
    wallet = await lock_wallet(tx, org_id, wallet_id)
    if not is_live(wallet, now):
        await terminate_wallet(tx, seams.change_bus, wallet=wallet, now=now)


async def _ongoing_credits(tx: Tx, seams: Seams, wallet: Wallet, now: datetime) -> Decimal:
    usage = await usage_by_wallet(tx, seams, org_id=wallet.org_id, customer_id=wallet.customer_id, now=now)
    return ongoing_credits(wallet, usage.get(wallet.id, 0))


async def _run(
    tx: Tx,
    seams: Seams,
    wallet: Wallet,
    rule: RecurringRule,
    ongoing: Decimal,
    source: Source,
    now: datetime,
) -> None:
    await _top_up(
        tx,
        seams,
        wallet,
        plan_top_up(rule, wallet, ongoing),
        now=now,
        source=source,
        name=rule.transaction_name,
        priority=LOWEST_PRIORITY,
        metadata=rule.transaction_metadata,
        requires_payment=rule.invoice_requires_successful_payment,
    )


async def _top_up(
    tx: Tx,
    seams: Seams,
    wallet: Wallet,
    top_up: TopUp,
    *,
    now: datetime,
    source: Source,
    name: str | None,
    priority: int,
    metadata: Sequence[Mapping[str, str]],
    requires_payment: bool | None,
) -> list[WalletTransaction]:
    made = []
    if top_up.paid_credits:
        bought = await transactions.buy_credits(
            tx,
            seams.change_bus,
            wallet,
            top_up.paid_credits,
            now=now,
            source=source,
            priority=priority,
            name=name,
            metadata=metadata,
            invoice_requires_successful_payment=requires_payment,
        )
        if not bought.invoice_requires_successful_payment:
            await _invoice(tx, seams, wallet, bought, now)
        made.append(await get_transaction(tx, wallet.org_id, bought.id))
    if top_up.granted_credits:
        made.append(
            await transactions.give_credits(
                tx,
                seams.change_bus,
                wallet,
                top_up.granted_credits,
                now=now,
                source=source,
                priority=priority,
                name=name,
                metadata=metadata,
            )
        )
    return made


async def _void(
    tx: Tx,
    seams: Seams,
    wallet: Wallet,
    credits: Decimal,
    name: str | None,
    priority: int,
    metadata: Sequence[Mapping[str, str]],
    now: datetime,
) -> WalletTransaction:
    wallet = await get_wallet(tx, wallet.org_id, wallet.id)  # with what was given just now
    void = await transactions.void_money(
        tx,
        seams.change_bus,
        wallet,
        voided_value(credits, wallet),
        now=now,
        name=name,
        priority=priority,
        metadata=metadata,
    )
    if void is None:
        raise refused("voided_credits", "insufficient_credits", what="are more than the wallet holds")
    return void


async def _invoice(
    tx: Tx, seams: Seams, wallet: Wallet, transaction: WalletTransaction, now: datetime
) -> Invoice:
    """The invoice that sells a pending transaction. Credits are paid in advance, so no tax applies to them: what they
    pay for is taxed."""
    cents = to_minor(transaction.amount, wallet.currency)
    line = InvoiceLine(
        org_id=wallet.org_id,
        id=new_id(),
        kind=LineKind.CREDIT,
        customer_id=wallet.customer_id,
        currency=wallet.currency,
        description=transaction.name
        or (f"Prepaid credits - {wallet.name}" if wallet.name else "Prepaid credits"),
        units=transaction.credit_amount,
        exact_amount_cents=cents,
        amount_cents=int(cents),
        created_at=now,
        wallet_transaction_id=transaction.id,
    )
    draft = InvoiceDraft(
        org_id=wallet.org_id,
        customer_id=wallet.customer_id,
        currency=wallet.currency,
        lines=(line,),
        invoice_type=InvoiceType.CREDIT,
        coupons=False,
        taxes=False,
        credits=False,
    )
    invoice = await issue_invoice(tx, seams, draft, now=now)
    assert invoice is not None, "a purchase costs something"
    await transactions.attach_invoice(
        tx, org_id=wallet.org_id, wallet_transaction_id=transaction.id, invoice_id=invoice.id
    )
    return invoice
