"""Explain this number: everything that made the amount of an invoice line, from what is stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from nozle_server.catalog import metric_store, plan_store
from nozle_server.catalog.charge_models import charge_model_name, to_properties
from nozle_server.catalog.model import Charge, ChargeFilter, Metric, PlanVersion
from nozle_server.core.errors import NotFound
from nozle_server.customers import store as customers_store
from nozle_server.identity.queries import get_organization
from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import EventRecord
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.explanation import Context, invoice_sentences, sentences
from nozle_server.invoicing.model import Invoice, InvoiceLine
from nozle_server.metering import store as metering_store
from nozle_server.rating.filters import conditions, in_order_of_match, prices_paid_usage


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an amount is made of. `price` is the charge's or fee's price as the catalog writes it; `events` a page of what
    was counted, of `events_count` that were."""

    line: InvoiceLine
    invoice: Invoice | None
    plan_code: str | None
    version: PlanVersion | None
    metric: Metric | None
    charge: Charge | None
    charge_filter: ChargeFilter | None
    price: Mapping[str, Any]
    sentences: Sequence[str]
    invoice_sentences: Sequence[str]
    events: Sequence[EventRecord]
    events_count: int


async def explain_fee(tx: Tx, *, org_id: UUID, line_id: UUID, limit: int, offset: int) -> Explanation:
    """NotFound `fee_not_found`."""
    line = await invoicing_store.find_line(tx, org_id, line_id)
    if line is None:
        raise NotFound("fee not found", code="fee_not_found")
    invoice = await invoicing_store.find(tx, org_id, line.invoice_id) if line.invoice_id else None
    version = plan_code = plan_name = None
    if line.plan_id and line.plan_version_id:
        plan_code, plan_name = await plan_store.plan_names(tx, org_id, line.plan_id)
        version = await plan_store.get_plan_version(tx, org_id, line.plan_version_id)
    charge, charge_filter = _charge_of(line, version)
    metric = await metric_store.get_metric_by_id(tx, org_id, line.metric_id) if line.metric_id else None
    context = Context(
        invoice=invoice,
        timezone=invoice.timezone if invoice else await _timezone(tx, org_id, line.customer_id),
        plan_name=plan_name,
        plan_code=plan_code,
        plan_version=version.version if version else None,
        metric_name=metric.name if metric else None,
        aggregation=metric.aggregation if metric else None,
        charge_model=charge_model_name((charge_filter or charge).model) if charge else None,
        filter_values=charge_filter.values if charge_filter else None,
    )
    events, count = await _events(tx, line, charge, charge_filter, metric, limit=limit, offset=offset)
    return Explanation(
        line=line,
        invoice=invoice,
        plan_code=plan_code,
        version=version,
        metric=metric,
        charge=charge,
        charge_filter=charge_filter,
        price=_price(line, version, charge, charge_filter),
        sentences=sentences(line, context),
        invoice_sentences=invoice_sentences(invoice) if invoice else (),
        events=events,
        events_count=count,
    )


def _charge_of(line: InvoiceLine, version: PlanVersion | None) -> tuple[Charge | None, ChargeFilter | None]:
    if version is None or line.charge_id is None:
        return None, None
    charge = next((one for one in version.charges if one.id == line.charge_id), None)
    filters = charge.filters if charge else ()
    return charge, next((one for one in filters if one.id == line.charge_filter_id), None)


def _price(
    line: InvoiceLine, version: PlanVersion | None, charge: Charge | None, charge_filter: ChargeFilter | None
) -> dict[str, Any]:
    if charge is not None:
        model = (charge_filter or charge).model
        return {"charge_model": charge_model_name(model), "properties": to_properties(model)}
    if version is None:
        return {}
    for fixed in version.fixed_charges:
        if fixed.id == line.fixed_charge_id:
            return {"charge_model": charge_model_name(fixed.model), "properties": to_properties(fixed.model)}
    return {"amount_cents": version.amount_cents, "interval": version.interval}


async def _timezone(tx: Tx, org_id: UUID, customer_id: UUID) -> str:
    customer = await customers_store.find_by_id(tx, org_id, customer_id)
    organization = await get_organization(tx, org_id)
    return (customer.timezone if customer else None) or organization.timezone


async def _events(
    tx: Tx,
    line: InvoiceLine,
    charge: Charge | None,
    charge_filter: ChargeFilter | None,
    metric: Metric | None,
    *,
    limit: int,
    offset: int,
) -> tuple[Sequence[EventRecord], int]:
    """The events that the line's quantity comes from; what came late is on the line that corrects the period."""
    if charge is None or metric is None or line.subscription_id is None or line.true_up_of:
        return (), 0
    assert line.period_start, "usage has a period"
    assert line.period_end, "usage has a period"
    ordered = in_order_of_match(charge.filters)
    place = ordered.index(charge_filter) if charge_filter else len(ordered)
    return await metering_store.list_priced_together(
        tx,
        line.org_id,
        subscription_id=line.subscription_id,
        metric_id=metric.id,
        start=line.period_start,
        end=line.period_end,
        matching=conditions(charge_filter, metric) if charge_filter else {},
        not_matching=[conditions(one, metric) for one in ordered[:place]],
        group=line.grouped_by,
        unpaid=not prices_paid_usage(charge.filters),
        limit=limit,
        offset=offset,
    )
