"""From an event as it was sent to the record that is stored: matched, measured and costed, or the reason why not."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog.model import Metric
from nozle_server.core.errors import InvalidInput, NozleError, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount
from nozle_server.costs import unit_cost
from nozle_server.costs.model import CostModel, CostType
from nozle_server.costs.unit_cost import CostFacts
from nozle_server.infra.event_log import EventRecord
from nozle_server.metering.model import PAID_BY_CREDITS, MeterEvent
from nozle_server.metering.quantity import Measured, measure
from nozle_server.metering.timestamps import check_not_ahead
from nozle_server.subscriptions.model import Subscription
from nozle_server.workflows.event_facts import EventFacts


@dataclass(frozen=True, slots=True)
class Match:
    """Customer and subscription of an event, and the reason when one of them is not to be found."""

    customer: str | None
    customer_id: UUID | None
    subscription: Subscription | None
    reason: str | None


def resolve(event: MeterEvent, facts: EventFacts, *, strict: bool, now: datetime) -> EventRecord | NozleError:
    """The record to store, or why the event is refused; `strict` refuses what cannot be matched."""
    metric = facts.metrics.get(event.code)
    match = match_event(event, facts, now)
    if strict and match.reason is not None:
        return RuleBroken(match.reason.replace("_", " "), code=match.reason)
    occurred_at = event.occurred_at or _arrival(match.subscription, now)
    try:
        check_not_ahead(occurred_at, now)
        measured = (
            measure(metric, event.properties, value=event.value, occurred_at=occurred_at) if metric else None
        )
    except (RuleBroken, InvalidInput) as error:
        return error
    status, reason = _status(metric, match, occurred_at, facts)
    if event.paid and status != "unmatched":
        reason = PAID_BY_CREDITS
    cost_facts = _cost_facts(event, measured)
    cost_model, cost = _cost(event, cost_facts, facts)
    return EventRecord(
        id=new_id(),
        transaction_id=event.transaction_id,
        occurred_at=occurred_at,
        received_at=now,
        code=event.code,
        external_customer_id=match.customer,
        external_subscription_id=event.external_subscription_id,
        customer_id=match.customer_id,
        subscription_id=match.subscription.id if match.subscription else None,
        metric_id=metric.id if metric else None,
        status=status,
        reason=reason,
        quantity=measured.quantity if measured else None,
        unique_value=measured.unique_value if measured else None,
        model=cost_facts.model,
        input_tokens=cost_facts.input_tokens,
        output_tokens=cost_facts.output_tokens,
        cost_cents=cost,
        cost_model_id=cost_model.id if cost_model else None,
        precise_total_amount_cents=event.precise_total_amount_cents,
        properties=event.properties,
        payload_hash=event.payload_hash(),
    )


def match_event(event: MeterEvent, facts: EventFacts, now: datetime) -> Match:
    """By the subscription it names, else the customer's subscription that runs when it happened, the newest first."""
    at = event.occurred_at or now
    name = event.external_customer_id
    if event.external_subscription_id:
        named = facts.subscriptions.with_external_id(event.external_subscription_id, at)
        if named is None or (name is not None and named.customer != name):
            return Match(name, facts.customers.get(name or ""), None, "subscription_not_found")
        return Match(named.customer, named.subscription.customer_id, named.subscription, None)
    customer_id = facts.customers.get(name or "")
    if name is None or customer_id is None:
        return Match(name, None, None, "customer_not_found")
    running = [
        one.subscription for one in facts.subscriptions.of_customer(name) if one.subscription.is_active_at(at)
    ]
    if not running:
        return Match(name, customer_id, None, "subscription_not_found")
    return Match(name, customer_id, max(running, key=lambda one: (one.started_at, one.id)), None)


def _arrival(subscription: Subscription | None, now: datetime) -> datetime:
    """When an event sent without a time happened. `now` was read before the subscription was held: a period that was
    closed in between must not make late what we dated ourselves."""
    return now if subscription is None else max(now, subscription.billed_through)


def _status(
    metric: Metric | None, match: Match, occurred_at: datetime, facts: EventFacts
) -> tuple[str, str | None]:
    if metric is None:
        return "unmatched", "billable_metric_not_found"
    if match.subscription is None:
        return "unmatched", match.reason
    if occurred_at < match.subscription.billed_through:
        interval = facts.subscriptions.by_id[match.subscription.id].interval
        billed = match.subscription.bills(match.subscription.period_at(occurred_at, interval))
        return "late", "period_already_invoiced" if billed else "period_not_billed"
    return "counted", None


def _cost_facts(event: MeterEvent, measured: Measured | None) -> CostFacts:
    model = event.properties.get("model")
    return CostFacts(
        quantity=measured.quantity if measured else Decimal(0),
        model=model if isinstance(model, str) and model else None,
        input_tokens=_tokens(event.properties.get("input_tokens")),
        output_tokens=_tokens(event.properties.get("output_tokens")),
    )


def _tokens(value: object) -> Decimal:
    """Tokens of a property; 0 when it is absent or not a number (the metric decides whether that is allowed)."""
    try:
        return max(Decimal(0), parse_amount(value, "tokens"))
    except InvalidInput:
        return Decimal(0)


def _cost(
    event: MeterEvent, cost_facts: CostFacts, facts: EventFacts
) -> tuple[CostModel | None, Decimal | None]:
    """The event's cost model and cost; a tiered one's cost follows when the event is known to be new."""
    chosen = unit_cost.choose(facts.cost_models.get(event.code, ()), cost_facts)
    if chosen is None:
        return None, None
    if chosen.cost_type is CostType.TIERED:
        return chosen, Decimal(0)
    return chosen, unit_cost.cost_cents(chosen, cost_facts)
