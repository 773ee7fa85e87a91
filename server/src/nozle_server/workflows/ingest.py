"""Take meter events in: match each to customer, subscription and metric, measure and cost it, store it once, count it.

What cannot be matched is stored all the same and flagged (`unmatched`), or refused when the caller asked for that
(`strict`, the root form of contract 2.4). An event for a period that is closed is stored and flagged `late`.
Nothing is dropped in silence.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.errors import Conflict, NozleError
from nozle_server.core.rounding import EXACT
from nozle_server.costs import store as costs_store
from nozle_server.costs import unit_cost
from nozle_server.costs.model import CostModel, CostType
from nozle_server.costs.unit_cost import CostFacts
from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import Appended, EventRecord, Outcome
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.advance_store import Turn
from nozle_server.metering.counting import Counted, is_counted, plan_changes
from nozle_server.metering.model import MeterEvent
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.workflows.adjust_periods import note_late_events
from nozle_server.workflows.advance_charges import (
    Charged,
    charge_events,
    charged_at_once,
    hold_customers,
    take_turns,
    versions_of,
)
from nozle_server.workflows.bill_progress import progress_watched
from nozle_server.workflows.check_alerts import usage_changed
from nozle_server.workflows.event_facts import EventFacts, gather
from nozle_server.workflows.match_event import resolve

# `llm-<provider>-<id>`: the provider's response names the event, and the proxy and an SDK that capture the same call
# must not conflict (contract Decision 13). The providers are those whose calls are captured.
_PROVIDER_ID = re.compile(r"llm-(openai|anthropic|google|gemini)-.+")


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one event: the stored one, or why there is none."""

    event: EventRecord | None
    replayed: bool = False
    error: NozleError | None = None


async def ingest(
    tx: Tx, seams: Seams, *, org_id: UUID, events: Sequence[MeterEvent], strict: bool, now: datetime
) -> list[Ingested]:
    """Store and count `events`; one answer each, in their order. Durable when `tx` commits."""
    await hold_customers(tx, org_id, events)
    facts = await gather(tx, org_id, events, now)
    resolved = [resolve(event, facts, strict=strict, now=now) for event in events]
    versions = await versions_of(tx, org_id, facts)
    charged = charged_at_once([one for one in resolved if isinstance(one, EventRecord)], versions, facts)
    if charged:
        resolved = await _in_turn(tx, org_id, resolved, charged)
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
    await _note_late(tx, org_id, stored, facts, now)
    moved = {event.subscription_id for event in stored if is_counted(event, facts.metrics.get(event.code))}
    used = [one for one in facts.subscriptions.by_id.values() if one.subscription.id in moved]
    watched = await progress_watched(tx, org_id, [one.subscription for one in used], versions)
    await usage_changed(tx, seams, org_id, used, now, watched)
    if charged:
        await charge_events(tx, seams, stored=stored, charged=charged, metrics=facts.metrics, now=now)
    await _cost_tiers(tx, org_id, stored, facts)
    return answers


async def _in_turn(
    tx: Tx, org_id: UUID, resolved: Sequence[EventRecord | NozleError], charged: Mapping[Turn, Charged]
) -> list[EventRecord | NozleError]:
    records = [one for one in resolved if isinstance(one, EventRecord)]
    received = await take_turns(tx, org_id, records, charged)
    return [
        replace(one, received_at=received.get(one.id, one.received_at))
        if isinstance(one, EventRecord)
        else one
        for one in resolved
    ]


def _answer(appended: Appended) -> Ingested:
    match appended.outcome:
        case Outcome.STORED:
            return Ingested(appended.event)
        case Outcome.CONFLICT if not _PROVIDER_ID.fullmatch(appended.event.transaction_id):
            error = Conflict("transaction_id already used", code="transaction_id_conflict")
            return Ingested(None, error=error)
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


async def _count(
    tx: Tx, seams: Seams, org_id: UUID, stored: Sequence[EventRecord], facts: EventFacts
) -> None:
    moved = [event for event in stored if is_counted(event, facts.metrics.get(event.code))]
    if not moved:
        return
    carried = {event.subscription_id for event in moved if facts.metrics[event.code].recurring}
    taken_over = [
        one.subscription
        for one in facts.subscriptions.by_id.values()
        if one.subscription.id in carried and one.subscription.previous_subscription_id is not None
    ]
    first = await subscriptions_store.first_of_chains(tx, org_id, [one.id for one in taken_over])
    counted = []
    for event in moved:
        assert event.subscription_id is not None, "only a matched event is counted"
        one = facts.subscriptions.by_id[event.subscription_id]
        metric = facts.metrics[event.code]
        owner = (
            first.get(one.subscription.id, one.subscription.id) if metric.recurring else one.subscription.id
        )
        start = one.subscription.period_at(event.occurred_at, one.interval).start
        counted.append(Counted(event, metric, owner, start))
    await seams.usage_store.count(tx, org_id, plan_changes(counted))


async def _note_late(
    tx: Tx, org_id: UUID, stored: Sequence[EventRecord], facts: EventFacts, now: datetime
) -> None:
    """What came too late for its period is billed with the next invoice."""
    late = []
    for event in stored:
        if event.status == "late" and event.subscription_id is not None:
            one = facts.subscriptions.by_id[event.subscription_id]
            period = one.subscription.period_at(event.occurred_at, one.interval)
            late.append((event, one.subscription, period))
            if facts.metrics[event.code].recurring:
                # What is carried over changes every closed period that followed.
                while period.end < one.subscription.billed_through:
                    period = one.subscription.period_at(period.end, one.interval)
                    late.append((event, one.subscription, period))
    if late:
        await note_late_events(tx, org_id, late, now)


async def _cost_tiers(tx: Tx, org_id: UUID, stored: Sequence[EventRecord], facts: EventFacts) -> None:
    """Find each event's place in its cost model's tiers, which run over a calendar month (UTC) of the organization.

    Last before the commit, since the month's row is one lock for all customers; one addition a month and model.
    """
    tiered = {
        one.id: one
        for models in facts.cost_models.values()
        for one in models
        if one.cost_type is CostType.TIERED
    }
    months: dict[tuple[UUID, date], list[EventRecord]] = defaultdict(list)
    for event in stored:
        if event.cost_model_id in tiered and event.quantity is not None and event.quantity > 0:
            months[event.cost_model_id, event.occurred_at.date().replace(day=1)].append(event)
    for (cost_model_id, month), events in sorted(months.items()):
        costs = await _costs_of_month(tx, org_id, tiered[cost_model_id], month, events)
        await costs_store.set_event_costs(tx, org_id, costs)


async def _costs_of_month(
    tx: Tx, org_id: UUID, cost_model: CostModel, month: date, events: Sequence[EventRecord]
) -> list[tuple[datetime, UUID, Decimal]]:
    quantities = [event.quantity or Decimal(0) for event in events]
    total = Decimal(0)
    for quantity in quantities:
        total = EXACT.add(total, quantity)
    before = await costs_store.add_to_month(tx, org_id, cost_model.id, month, total)
    costs = []
    for event, quantity in zip(events, quantities, strict=True):
        facts = CostFacts(quantity, event.model, Decimal(0), Decimal(0))
        costs.append((event.occurred_at, event.id, unit_cost.cost_cents(cost_model, facts, before)))
        before = EXACT.add(before, quantity)
    return costs
