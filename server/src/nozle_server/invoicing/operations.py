"""Use cases that make invoices."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nozle_server.catalog import metric_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.ids import new_id
from nozle_server.core.periods import Period, local_date
from nozle_server.infra.change_bus import Change
from nozle_server.infra.counters import next_number
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.infra.usage_store import Window
from nozle_server.invoicing import lines as invoice_lines
from nozle_server.invoicing import store
from nozle_server.invoicing.model import BillingReason, Invoice, InvoiceLine
from nozle_server.subscriptions.model import Subscription

INVOICE_FINALIZED = "invoice.finalized"


async def rate_usage(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, period: Period
) -> list[InvoiceLine]:
    """The charge lines of one subscription for one period, from the events as they are stored now."""
    lines: list[InvoiceLine] = []
    for charge in version.charges:
        metric = await metric_store.get_metric_by_id(tx, subscription.org_id, charge.metric_id)
        window = Window(subscription.id, period.start, period.end)
        query = invoice_lines.usage_query(charge, metric.aggregation, [window])
        rows = await seams.usage_store.usage(tx, subscription.org_id, query)
        lines += invoice_lines.charge_lines(subscription, version, charge, period, rows)
    return lines


async def finalize_invoice(
    tx: Tx,
    seams: Seams,
    *,
    subscription: Subscription,
    version: PlanVersion,
    reason: BillingReason,
    period: Period,
    lines: Sequence[InvoiceLine],
    now: datetime,
) -> Invoice:
    """Number, total and store an invoice of these lines; it never changes afterwards. Due on its issuing date."""
    number = await next_number(tx, subscription.org_id, "invoices")
    issued_on = local_date(now, subscription.timezone)
    total = invoice_lines.total_cents(lines)
    invoice = Invoice(
        org_id=subscription.org_id,
        id=new_id(),
        sequential_id=number,
        number=f"INV-{number:03d}",
        customer_id=subscription.customer_id,
        subscription_id=subscription.id,
        invoice_type="subscription",
        billing_reason=reason,
        status="finalized",
        payment_status="pending" if total > 0 else "succeeded",
        currency=version.currency,
        period_start=period.start,
        period_end=period.end,
        fees_amount_cents=total,
        total_amount_cents=total,
        issuing_date=issued_on,
        payment_due_date=issued_on,
        created_at=now,
        finalized_at=now,
        lines=tuple(replace(line, position=position) for position, line in enumerate(lines)),
    )
    await store.insert(tx, invoice)
    payload = {"number": invoice.number, "total_amount_cents": total, "currency": invoice.currency}
    await seams.change_bus.publish(tx, Change(invoice.org_id, INVOICE_FINALIZED, str(invoice.id), payload))
    return invoice
