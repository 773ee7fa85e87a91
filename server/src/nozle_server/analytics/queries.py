"""Figures of the merchant's business, by month."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from nozle_server.analytics import store
from nozle_server.analytics.model import (
    Collection,
    InvoicedUsage,
    Overdue,
    Range,
    RecurringRevenue,
    Revenue,
)
from nozle_server.analytics.recurring import by_month
from nozle_server.core.periods import local_date
from nozle_server.identity.model import Organization
from nozle_server.infra.database import Tx


async def range_of(
    tx: Tx,
    organization: Organization,
    *,
    months: int | None,
    currency: str | None,
    customer_id: UUID | None = None,
    now: datetime,
) -> Range:
    """The last `months` months in the organization's zone, this one included; without a number all since the organization
    was made, or made its first invoice."""
    last = local_date(now, organization.timezone).replace(day=1)
    if months is None:
        made = local_date(organization.created_at, organization.timezone).replace(day=1)
        first = min(made, last, await store.first_month(tx, organization.id) or last)
    else:
        year, month0 = divmod(last.year * 12 + last.month - max(1, months), 12)
        first = date(year, month0 + 1, 1)
    return Range(first=first, last=last, currency=currency, customer_id=customer_id)


async def gross_revenue(tx: Tx, organization: Organization, wanted: Range) -> list[Revenue]:
    """Totals of final invoices by their issuing date, less what was refunded of them, and fees paid in advance that are on
    no invoice. Invoices whose dispute was lost count nowhere."""
    return await store.gross_revenue(tx, organization.id, wanted, organization.timezone)


async def invoice_collection(tx: Tx, org_id: UUID, wanted: Range) -> list[Collection]:
    """Final invoices by month and payment status; unless a currency is asked for, months without any are shown too."""
    rows = await store.invoice_collection(tx, org_id, wanted)
    if wanted.currency is None:
        seen = {row.month for row in rows}
        rows += [Collection(month, None, None, 0, 0) for month in months_of(wanted) if month not in seen]
        rows.sort(key=lambda row: row.month)
    return rows


async def invoiced_usage(tx: Tx, org_id: UUID, wanted: Range) -> list[InvoicedUsage]:
    """Usage on final invoices by month and metric, the latest month and the largest amount first."""
    return await store.invoiced_usage(tx, org_id, wanted)


async def overdue_balance(tx: Tx, organization: Organization, wanted: Range, now: datetime) -> list[Overdue]:
    """What is open of invoices past their due date, by the month they were due in."""
    return await store.overdue_balance(tx, organization.id, wanted, local_date(now, organization.timezone))


async def recurring_revenue(tx: Tx, org_id: UUID, wanted: Range) -> list[RecurringRevenue]:
    """Monthly recurring revenue (`recurring.py`); unless a currency is asked for, months without any are shown too."""
    amounts = by_month(await store.subscription_fees(tx, org_id, wanted))
    rows = [
        RecurringRevenue(month, currency, amount)
        for (month, currency), amount in sorted(amounts.items())
        if wanted.first <= month <= wanted.last
    ]
    if wanted.currency is None:
        seen = {row.month for row in rows}
        rows += [RecurringRevenue(month, None, None) for month in months_of(wanted) if month not in seen]
        rows.sort(key=lambda row: row.month)
    return rows


def months_of(wanted: Range) -> Sequence[date]:
    """The first day of every month of the range."""
    start, end = (day.year * 12 + day.month - 1 for day in (wanted.first, wanted.last))
    return [date(n // 12, n % 12 + 1, 1) for n in range(start, end + 1)]
