"""What a period's usage costs, as invoice lines: one for each price of each charge."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal

from nozle_server.catalog.charge_models import ChargeModel
from nozle_server.catalog.model import Aggregation, Charge, ChargeFilter, PlanVersion
from nozle_server.core.ids import new_id
from nozle_server.core.periods import Period
from nozle_server.infra.usage_store import UsageQuery, UsageRow, Window
from nozle_server.invoicing.model import InvoiceLine, LineKind
from nozle_server.rating.filters import in_order_of_match
from nozle_server.rating.rate import RatedLine, Usage, needs_transactions, rate
from nozle_server.subscriptions.model import Subscription


def usage_query(charge: Charge, aggregation: Aggregation, windows: Sequence[Window]) -> UsageQuery:
    """The question whose rows `charge_lines` prices."""
    filters = in_order_of_match(charge.filters)
    models = [charge.model, *(one.model for one in filters)]
    return UsageQuery(
        metric_id=charge.metric_id,
        aggregation=aggregation,
        windows=tuple(windows),
        filters=tuple(one.values for one in filters),
        with_transactions=any(needs_transactions(model) for model in models),
    )


def charge_lines(
    subscription: Subscription,
    version: PlanVersion,
    charge: Charge,
    period: Period,
    rows: Sequence[UsageRow],
    now: datetime,
) -> list[InvoiceLine]:
    """A charge's lines from one window's usage: its own price always, a filter's when some event matched it."""
    filters = in_order_of_match(charge.filters)
    by_filter = {row.filter_index: row for row in rows}
    lines = [
        _charge_line(subscription, version, charge, None, charge.model, period, by_filter.get(None), now)
    ]
    for index, one in enumerate(filters):
        if index in by_filter:
            lines.append(
                _charge_line(subscription, version, charge, one, one.model, period, by_filter[index], now)
            )
    return lines


def _charge_line(
    subscription: Subscription,
    version: PlanVersion,
    charge: Charge,
    charge_filter: ChargeFilter | None,
    model: ChargeModel,
    period: Period,
    row: UsageRow | None,
    now: datetime,
) -> InvoiceLine:
    rated = _rate(model, row, version.currency)
    name = charge.invoice_display_name or charge.metric_code
    if charge_filter is not None:
        values = ", ".join(value for _, values in sorted(charge_filter.values.items()) for value in values)
        name = charge_filter.invoice_display_name or f"{name} ({values})"
    return InvoiceLine(
        org_id=version.org_id,
        id=new_id(),
        kind=LineKind.CHARGE,
        customer_id=subscription.customer_id,
        currency=version.currency,
        created_at=now,
        subscription_id=subscription.id,
        plan_id=version.plan_id,
        plan_version_id=version.id,
        charge_id=charge.id,
        charge_filter_id=charge_filter.id if charge_filter else None,
        metric_id=charge.metric_id,
        metric_code=charge.metric_code,
        description=name,
        units=rated.units,
        events_count=row.events_count if row else 0,
        exact_amount_cents=rated.exact_amount_cents,
        amount_cents=rated.amount_cents,
        period_start=period.start,
        period_end=period.end,
        steps=tuple(asdict(step) for step in rated.steps),
    )


def _rate(model: ChargeModel, row: UsageRow | None, currency: str) -> RatedLine:
    if row is None:
        return rate(model, Usage(Decimal(0), 0), currency=currency)
    transactions = row.transactions if needs_transactions(model) else ()
    return rate(model, Usage(row.units, row.events_count, transactions), currency=currency)
