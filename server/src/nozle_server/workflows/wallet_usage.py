"""What each of a customer's wallets will have to pay: usage that no invoice took yet and drafts, tax included.

As Lago's ongoing balance: https://getlago.com/docs/guide/wallet-and-prepaid-credits/overview ("Real time wallet balance").
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.periods import Period
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.amounts import payable_cents, progressive_shares, usage_cents
from nozle_server.invoicing.model import InvoiceLine, InvoiceStatus
from nozle_server.invoicing.progressive_store import invoices_of_period
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.invoicing.usage_lines import rate_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.wallets.allocation import plan_usage
from nozle_server.wallets.model import WalletLine
from nozle_server.wallets.queries import list_live_wallets
from nozle_server.workflows.current_usage import tax_usage

_MOST_DRAFTS = 1000


async def usage_by_wallet(
    tx: Tx, seams: Seams, *, org_id: UUID, customer_id: UUID, now: datetime
) -> dict[UUID, int]:
    """Minor units by wallet, shared out as an invoice would take them; 0 where there is nothing to pay for."""
    wallets = await list_live_wallets(tx, org_id, customer_id, now)
    carried: dict[UUID, int] = {}
    for currency in sorted({one.currency for one in wallets}):
        lines = await _lines_to_pay(tx, seams, org_id, customer_id, currency, now)
        carried |= plan_usage([one for one in wallets if one.currency == currency], lines)
    return carried


async def _lines_to_pay(
    tx: Tx, seams: Seams, org_id: UUID, customer_id: UUID, currency: str, now: datetime
) -> list[WalletLine]:
    wanted = InvoiceFilter(customer_id=customer_id, statuses=(InvoiceStatus.DRAFT,), currency=currency)
    drafts, _ = await invoicing_store.list_invoices(tx, org_id, wanted, limit=_MOST_DRAFTS, offset=0)
    lines = [
        WalletLine(line.kind, line.metric_id, cents)
        for draft in drafts
        for line, cents in zip(draft.lines, payable_cents(draft), strict=True)
    ]
    for subscription in await subscriptions_store.list_of_customer(tx, org_id, customer_id):
        if subscription.status is not Status.ACTIVE or subscription.started_at > now:
            continue
        version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
        # What is paid in advance has been invoiced, or will not be.
        in_arrears = replace(version, charges=tuple(one for one in version.charges if not one.pay_in_advance))
        if version.currency != currency or not in_arrears.charges:
            continue
        period = subscription.period_at(now, version.usage_interval)
        usage = await rate_usage(tx, seams, subscription, in_arrears, period, now)
        if version.usage_thresholds:
            usage = await _not_billed_yet(tx, subscription, period, usage)
        lines += await _with_taxes(tx, customer_id, version, usage)
    return lines


async def _not_billed_yet(
    tx: Tx, subscription: Subscription, period: Period, usage: Sequence[InvoiceLine]
) -> list[InvoiceLine]:
    """The usage less what progressive invoices of its period charged."""
    earlier = await invoices_of_period(tx, subscription.org_id, subscription.id, period.start)
    charged = min(sum(one.charged_cents for one in earlier), usage_cents(usage))
    return [
        replace(line, amount_cents=line.amount_cents - share)
        for line, share in zip(usage, progressive_shares(usage, charged), strict=True)
    ]


async def _with_taxes(
    tx: Tx, customer_id: UUID, version: PlanVersion, usage: Sequence[InvoiceLine]
) -> list[WalletLine]:
    taxed = await tax_usage(tx, customer_id, version, usage)
    return [
        WalletLine(line.kind, line.metric_id, line.amount_cents + tax.taxes_amount_cents)
        for line, tax in zip(usage, taxed.lines, strict=True)
    ]
