"""Core's objects of usage: of a running period, of a past one, and of each charge in it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.api.core_invoices import date_text
from nozle_server.catalog.charge_models import charge_model_name
from nozle_server.core.numbers import to_decimal_text
from nozle_server.core.periods import Period
from nozle_server.core.rounding import EXACT
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.invoicing.projection import Projection
from nozle_server.workflows.current_usage import (
    ChargeUsage,
    CurrentUsage,
    PastUsage,
)

_LAST_SECOND = timedelta(seconds=1)


def period_json(usage: CurrentUsage) -> dict[str, object]:
    """A running period and what it comes to so far."""
    return {
        **_span(Period(usage.period.start, usage.period.end)),
        "issuing_date": usage.issuing_date.isoformat(),
        "lago_invoice_id": None,
        "currency": usage.version.currency,
        "amount_cents": usage.amount_cents,
        "taxes_amount_cents": usage.taxes_amount_cents,
        "total_amount_cents": usage.amount_cents + usage.taxes_amount_cents,
    }


def past_json(past: PastUsage) -> dict[str, object]:
    """As Lago, the amounts are those of all fees of the period's invoice."""
    invoice = past.invoice
    taxes = sum(line.taxes_amount_cents for line in invoice.lines)
    return {
        **_span(Period(past.start, past.end)),
        "issuing_date": date_text(invoice.issuing_date),
        "lago_invoice_id": invoice.id,
        "nozle_invoice_id": invoice.id,
        "currency": invoice.currency,
        "amount_cents": invoice.fees_amount_cents,
        "taxes_amount_cents": taxes,
        "total_amount_cents": invoice.fees_amount_cents + taxes,
        "charges_usage": [charge_usage_json(one, invoice.currency, past=True) for one in past.charges],
    }


def _span(period: Period) -> dict[str, datetime]:
    """Core shows the last second of a period."""
    return {"from_datetime": period.start, "to_datetime": period.end - _LAST_SECOND}


def charge_usage_json(
    usage: ChargeUsage,
    currency: str,
    *,
    past: bool,
    projections: Mapping[UUID, Projection] | None = None,
) -> dict[str, object]:
    """A charge's usage in a period, by filter and group; with its projection where one is asked for."""
    lines = usage.lines
    metric = {
        "lago_id": usage.metric.id,
        "nozle_id": usage.metric.id,
        "name": usage.metric.name,
        "code": usage.metric.code,
        "aggregation_type": usage.metric.aggregation,
    }
    groups: dict[tuple[tuple[str, str | None], ...], list[InvoiceLine]] = {}
    for line in lines:
        if line.grouped_by:
            groups.setdefault(tuple(sorted(line.grouped_by.items())), []).append(line)
    return {
        **_sums(lines, projections),
        "amount_currency": currency,
        "charge": {
            "lago_id": usage.charge.id,
            "nozle_id": usage.charge.id,
            "code": usage.charge.code,
            "charge_model": charge_model_name(usage.charge.model),
            "invoice_display_name": usage.charge.invoice_display_name,
        },
        "billable_metric": metric,
        "feature": metric,
        "filters": _filters(usage, lines, projections, all_of_them=not past),
        "grouped_usage": [
            {
                **_sums(of_group, projections),
                "grouped_by": dict(group),
                "filters": _filters(usage, of_group, projections, all_of_them=False),
            }
            for group, of_group in groups.items()
        ],
    }


def _filters(
    usage: ChargeUsage,
    lines: Sequence[InvoiceLine],
    projections: Mapping[UUID, Projection] | None,
    *,
    all_of_them: bool,
) -> list[dict[str, Any]]:
    """Each filter with its usage, and last what matched none of them (values null); nothing for a charge without."""
    if not usage.charge.filters:
        return []
    rows = []
    for one in (*usage.charge.filters, None):
        matched = [line for line in lines if line.charge_filter_id == (one.id if one else None)]
        if matched or all_of_them:
            rows.append(
                {
                    **_sums(matched, projections),
                    "invoice_display_name": one.invoice_display_name if one else None,
                    "values": one.values if one else None,
                }
            )
    return rows


def _sums(lines: Sequence[InvoiceLine], projections: Mapping[UUID, Projection] | None) -> dict[str, object]:
    """Units, events and amount of some lines together."""
    units = to_decimal_text(_sum(line.units for line in lines))
    sums: dict[str, object] = {
        "units": units,
        "total_aggregated_units": units,
        "events_count": sum(line.events_count for line in lines),
        "amount_cents": sum(line.amount_cents for line in lines),
        "pricing_unit_details": None,
    }
    if projections is not None:
        projected = [projections[line.id] for line in lines]
        sums["projected_units"] = to_decimal_text(_sum(one.units for one in projected))
        sums["projected_amount_cents"] = sum(one.amount_cents for one in projected)
    return sums


def _sum(values: Any) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total
