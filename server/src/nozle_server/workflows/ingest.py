"""Take meter events in: match each to customer, subscription and metric, measure and cost it, store it once, count it.

What cannot be matched is stored all the same and flagged (`unmatched`), or refused when the caller asked for that
(`strict`, the root form of contract 2.4). An event for a period whose invoice is final is stored and flagged `late`.
Nothing is dropped in silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import metric_store
from nozle_server.catalog.model import Metric
from nozle_server.core.errors import Conflict, InvalidInput, NozleError, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount
from nozle_server.core.periods import Interval
from nozle_server.costs import store as costs_store
from nozle_server.costs import unit_cost
from nozle_server.costs.model import CostModel, CostType
from nozle_server.costs.unit_cost import CostFacts
from nozle_server.customers import store as customers_store
from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import Appended, EventRecord, Outcome
from nozle_server.infra.seams import Seams
from nozle_server.metering.counting import plan_changes
from nozle_server.metering.model import MeterEvent
from nozle_server.metering.quantity import measure
from nozle_server.metering.timestamps import check_not_ahead
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription

# The provider's response names these events: the proxy and an SDK that capture the same call must not conflict.
PROVIDER_ID_PREFIX = "llm-"


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one event: the stored one, or why there is none."""

    event: EventRecord | None
    replayed: bool = False
    error: NozleError | None = None


@dataclass(frozen=True, slots=True)
class _Facts:
    """All that a batch needs to know, read once."""

    metrics: Mapping[str, Metric]
    customers: Mapping[str, UUID]
    by_customer: Mapping[str, Sequence[tuple[Subscription, Interval]]]
    by_id: Mapping[str, tuple[Subscription, str, Interval]]
    cost_models: Mapping[str, Sequence[CostModel]]


async def ingest(
    tx: Tx, seams: Seams, *, org_id: UUID, events: Sequence[MeterEvent], strict: bool, now: datetime
) -> list[Ingested]:
    """Store and count `events`; one answer each, in their order. Durable when `tx` commits."""
    facts = await _gather(tx, org_id, events)
    resolved = [_resolve(event, facts, strict=strict, now=now) for event in events]
    records = [one for one in resolved if isinstance(one, EventRecord)]
    appended = iter(await seams.event_log.append(tx, org_id, records))
    answers: list[Ingested] = []
    stored: list[EventRecord] = []
    for event, one in zip(events, resolved, strict=True):
        if isinstance(one, EventRecord):
            answer = next(appended)
            answers.append(_answer(answer))
            if answer.outcome is Outcome.STORED:
                stored.append(answer.event)
        else:
            answers.append(await _refused_or_known(tx, seams, org_id, event, one))
    await _count(tx, seams, org_id, stored, facts)
    await _cost_tiers(tx, org_id, stored, facts)
    return answers


async def _gather(tx: Tx, org_id: UUID, events: Sequence[MeterEvent]) -> _Facts:
    names = {event.external_customer_id for event in events if event.external_customer_id}
    subscription_ids = {event.external_subscription_id for event in events if event.external_subscription_id}
    held = await subscriptions_store.hold_for_events(tx, org_id, sorted(names), sorted(subscription_ids))
    by_customer: dict[str, list[tuple[Subscription, Interval]]] = {}
    customers: dict[str, UUID] = {}
    for subscription, name, interval in held:
        by_customer.setdefault(name, []).append((subscription, interval))
        customers[name] = subscription.customer_id
    if missing := names - customers.keys():
        customers |= await customers_store.find_ids(tx, org_id, sorted(missing))
    found = await metric_store.find_metrics_with(
        tx,
        org_id,
        sorted({event.code for event in events}),
        extra=costs_store.IDS_OF_METRIC.format(code="m.code"),
    )
    return _Facts(
        metrics={metric.code: metric for metric, _ in found},
        customers=customers,
        by_customer=by_customer,
        by_id={
            subscription.external_id: (subscription, name, interval) for subscription, name, interval in held
        },
        cost_models={metric.code: await costs_store.get_many(tx, org_id, ids) for metric, ids in found},
    )


def _resolve(event: MeterEvent, facts: _Facts, *, strict: bool, now: datetime) -> EventRecord | NozleError:
    """The record to store, or why the event is refused."""
    metric = facts.metrics.get(event.code)
    name, customer_id, subscription, reason = _match(event, facts)
    if strict and reason is not None:
        return RuleBroken(reason.replace("_", " "), code=reason)
    try:
        check_not_ahead(event.occurred_at, now)
        measured = (
            measure(metric, event.properties, value=event.value, occurred_at=event.occurred_at)
            if metric
            else None
        )
    except (RuleBroken, InvalidInput) as error:
        return error
    status, reason = _status(event, metric, subscription, reason)
    quantity = measured.quantity if measured else None
    model = event.properties.get("model")
    cost_model, cost = _cost(event, quantity, facts)
    return EventRecord(
        id=new_id(),
        transaction_id=event.transaction_id,
        occurred_at=event.occurred_at,
        received_at=now,
        code=event.code,
        external_customer_id=name,
        external_subscription_id=event.external_subscription_id,
        customer_id=customer_id,
        subscription_id=subscription.id if subscription else None,
        metric_id=metric.id if metric else None,
        status=status,
        reason=reason,
        quantity=quantity,
        unique_value=measured.unique_value if measured else None,
        model=model if isinstance(model, str) and model else None,
        cost_cents=cost,
        cost_model_id=cost_model.id if cost_model else None,
        precise_total_amount_cents=event.precise_total_amount_cents,
        properties=event.properties,
        payload_hash=event.payload_hash(),
    )


def _match(
    event: MeterEvent, facts: _Facts
) -> tuple[str | None, UUID | None, Subscription | None, str | None]:
    """Customer and subscription of an event, and the reason when one of them is not to be found."""
    name = event.external_customer_id
    if event.external_subscription_id:
        named = facts.by_id.get(event.external_subscription_id)
        if (
            named is None
            or (name is not None and named[1] != name)
            or not named[0].is_active_at(event.occurred_at)
        ):
            return name, facts.customers.get(name or ""), None, "subscription_not_found"
        return named[1], named[0].customer_id, named[0], None
    customer_id = facts.customers.get(name or "")
    if customer_id is None:
        return name, None, None, "customer_not_found"
    active = [one for one, _ in facts.by_customer.get(name or "", ()) if one.is_active_at(event.occurred_at)]
    if not active:
        return name, customer_id, None, "subscription_not_found"
    return name, customer_id, max(active, key=lambda one: (one.started_at, one.id)), None


def _status(
    event: MeterEvent, metric: Metric | None, subscription: Subscription | None, reason: str | None
) -> tuple[str, str | None]:
    if metric is None:
        return "unmatched", "billable_metric_not_found"
    if subscription is None:
        return "unmatched", reason
    if event.occurred_at < subscription.billed_through:
        return "late", "period_already_invoiced"
    return "counted", None


def _cost(
    event: MeterEvent, quantity: Decimal | None, facts: _Facts
) -> tuple[CostModel | None, Decimal | None]:
    """The event's cost model and cost; a tiered one's cost follows when the event is known to be new."""
    models = facts.cost_models.get(event.code)
    if not models or quantity is None:
        return None, None
    properties = event.properties
    model = properties.get("model")
    cost_facts = CostFacts(
        quantity=quantity,
        model=model if isinstance(model, str) else None,
        input_tokens=_tokens(properties.get("input_tokens")),
        output_tokens=_tokens(properties.get("output_tokens")),
    )
    chosen = unit_cost.choose(models, cost_facts)
    if chosen is None:
        return None, None
    if chosen.cost_type is CostType.TIERED:
        return chosen, Decimal(0)
    return chosen, unit_cost.cost_cents(chosen, cost_facts)


def _tokens(value: object) -> Decimal:
    """Tokens of a property; 0 when it is absent or not a number (the metric decides whether that is allowed)."""
    try:
        return max(Decimal(0), parse_amount(value, "tokens"))
    except InvalidInput:
        return Decimal(0)


def _answer(appended: Appended) -> Ingested:
    match appended.outcome:
        case Outcome.STORED:
            return Ingested(appended.event)
        case Outcome.CONFLICT if not appended.event.transaction_id.startswith(PROVIDER_ID_PREFIX):
            return Ingested(None, error=transaction_id_conflict())
        case _:
            return Ingested(appended.event, replayed=True)


async def _refused_or_known(
    tx: Tx, seams: Seams, org_id: UUID, event: MeterEvent, error: NozleError
) -> Ingested:
    """A repeat of a stored event is answered with it even when the event could not be taken in today."""
    known = await seams.event_log.find(tx, org_id, event.transaction_id)
    if known is None:
        return Ingested(None, error=error)
    same = known.payload_hash == event.payload_hash()
    return _answer(Appended(Outcome.DUPLICATE if same else Outcome.CONFLICT, known))


def transaction_id_conflict() -> NozleError:
    return Conflict("transaction_id already used", code="transaction_id_conflict")


async def _count(tx: Tx, seams: Seams, org_id: UUID, stored: Sequence[EventRecord], facts: _Facts) -> None:
    periods = {
        subscription.id: (subscription, interval)
        for subscriptions in facts.by_customer.values()
        for subscription, interval in subscriptions
    }
    counted = []
    for event in stored:
        if event.status != "counted":
            continue
        assert event.subscription_id is not None
        subscription, interval = periods[event.subscription_id]
        start = subscription.period_at(event.occurred_at, interval).start
        counted.append((event, facts.metrics[event.code].aggregation, start))
    if counted:
        await seams.usage_store.count(tx, org_id, plan_changes(counted))


async def _cost_tiers(tx: Tx, org_id: UUID, stored: Sequence[EventRecord], facts: _Facts) -> None:
    """Find each event's place in its cost model's tiers: they run over a calendar month (UTC) of the organization."""
    tiered = {
        one.id: one
        for models in facts.cost_models.values()
        for one in models
        if one.cost_type is CostType.TIERED
    }
    if not tiered:
        return
    for event in sorted(stored, key=lambda one: (str(one.cost_model_id), one.occurred_at)):
        cost_model = tiered.get(event.cost_model_id) if event.cost_model_id else None
        if cost_model is None or not event.quantity or event.quantity < 0:
            continue
        month = event.occurred_at.date().replace(day=1)
        before = await costs_store.add_to_month(tx, org_id, cost_model.id, month, event.quantity)
        cost_facts = CostFacts(event.quantity, event.model, Decimal(0), Decimal(0))
        cost = unit_cost.cost_cents(cost_model, cost_facts, before)
        await costs_store.set_event_cost(tx, org_id, event.occurred_at, event.id, cost)
