"""What an event would cost in charges that are paid in advance, had it been sent; nothing of it stays.

As Lago: https://getlago.com/docs/api-reference/events/estimate-fees
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.charge_models import Percentage, Standard
from nozle_server.catalog.model import Charge, Metric, PlanVersion
from nozle_server.core.errors import InvalidInput, NotFound, NozleError, RuleBroken
from nozle_server.core.periods import Period
from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import EventRecord
from nozle_server.infra.seams import Seams
from nozle_server.infra.usage_store import UsageRow
from nozle_server.invoicing.lines import EventPrice, event_line, event_price, usage_window
from nozle_server.invoicing.model import AppliedTax, InvoiceLine
from nozle_server.metering.model import MeterEvent
from nozle_server.metering.quantity import round_units
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription
from nozle_server.workflows.current_usage import tax_usage
from nozle_server.workflows.event_facts import gather
from nozle_server.workflows.match_event import resolve


class _Undo(Exception):
    """Takes an event that was stored for the look of it out again."""


@dataclass(frozen=True, slots=True)
class _Matched:
    """An event with what it is charged by."""

    record: EventRecord
    metric: Metric
    subscription: Subscription
    version: PlanVersion
    period: Period
    charges: tuple[Charge, ...]


async def estimate_fees(
    tx: Tx, seams: Seams, *, org_id: UUID, event: MeterEvent, now: datetime
) -> list[InvoiceLine]:
    """The fees that the event would make now, after all that was used in the period, with tax.

    NotFound for an unknown subscription or metric, InvalidInput `does_not_match_an_instant_charge` when no charge of the plan
    is paid in advance for it.
    """
    matched = await _match(tx, org_id, event, now)
    lines: list[InvoiceLine] = []
    try:
        async with tx.transaction():
            await seams.event_log.append(tx, org_id, [matched.record])
            for charge in matched.charges:
                price = await _price(tx, matched, charge)
                before = await seams.usage_store.usage(tx, org_id, price.before)
                after = await seams.usage_store.usage(tx, org_id, price.after)
                lines.append(_line(matched, charge, price, before, after, now))
            raise _Undo
    except _Undo:
        pass
    return await _with_taxes(tx, matched, lines)


async def estimate_instant_fees(
    tx: Tx, *, org_id: UUID, event: MeterEvent, now: datetime
) -> list[InvoiceLine]:
    """What the event costs by itself, without a look at usage and without tax: for standard and percentage charges, as
    Lago. Errors as of `estimate_fees`."""
    matched = await _match(tx, org_id, event, now)
    charges = [one for one in matched.charges if isinstance(one.model, Standard | Percentage)]
    if not charges:
        raise _no_charge()
    units = max(Decimal(0), round_units(matched.metric, matched.record.quantity or Decimal(0)))
    lines = []
    for charge in charges:
        price = await _price(tx, matched, charge)
        alone = UsageRow(
            window=0,
            filter_index=price.filter_index,
            group=(),
            units=units,
            events_count=1,
            transactions=(units,),
            grouped_by=price.grouped_by,
            highest=units,
        )
        lines.append(_line(matched, charge, price, [], [alone], now))
    return lines


async def _match(tx: Tx, org_id: UUID, event: MeterEvent, now: datetime) -> _Matched:
    facts = await gather(tx, org_id, [event], now)
    record = resolve(event, facts, strict=True, now=now)
    if isinstance(record, NozleError):
        raise _as_not_found(record)
    metric = facts.metrics.get(event.code)
    if metric is None:
        raise NotFound("billable metric not found", code="billable_metric_not_found")
    assert record.subscription_id is not None, "a strict match has a subscription"
    subscription = facts.subscriptions.by_id[record.subscription_id].subscription
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    charges = tuple(one for one in version.charges if one.pay_in_advance and one.metric_id == metric.id)
    if not charges:
        raise _no_charge()
    period = subscription.period_at(record.occurred_at, version.usage_interval)
    return _Matched(record, metric, subscription, version, period, charges)


def _as_not_found(error: NozleError) -> NozleError:
    if isinstance(error, RuleBroken) and error.code in ("subscription_not_found", "customer_not_found"):
        return NotFound(error.message, code=error.code)
    return error


def _no_charge() -> InvalidInput:
    return InvalidInput(
        "no charge of the plan is paid in advance for this event",
        details={"code": ["does_not_match_an_instant_charge"]},
    )


async def _price(tx: Tx, matched: _Matched, charge: Charge) -> EventPrice:
    earlier: Sequence[UUID] = ()
    if matched.metric.recurring:
        chains = await subscriptions_store.chains(tx, matched.subscription.org_id, [matched.subscription.id])
        earlier = chains.get(matched.subscription.id, ())
    window = usage_window(matched.subscription, matched.period, earlier)
    return event_price(charge, matched.metric, window, matched.record)


def _line(
    matched: _Matched,
    charge: Charge,
    price: EventPrice,
    before: Sequence[UsageRow],
    after: Sequence[UsageRow],
    now: datetime,
) -> InvoiceLine:
    return event_line(
        matched.subscription,
        matched.version,
        charge,
        matched.metric,
        matched.period,
        matched.record,
        price,
        before,
        after,
        now,
    )


async def _with_taxes(tx: Tx, matched: _Matched, lines: Sequence[InvoiceLine]) -> list[InvoiceLine]:
    taxation = await tax_usage(tx, matched.subscription.customer_id, matched.version, lines)
    return [
        replace(
            line,
            taxes_rate=taxed.rate,
            taxes_amount_cents=taxed.taxes_amount_cents,
            applied_taxes=tuple(
                AppliedTax(
                    one.tax.id,
                    one.tax.code,
                    one.tax.name,
                    one.tax.description,
                    one.tax.rate,
                    Decimal(line.amount_cents),
                    one.amount_cents,
                )
                for one in taxed.taxes
            ),
        )
        for line, taxed in zip(lines, taxation.lines, strict=True)
    ]
