"""Charges that are paid in advance: each event is priced and charged in the transaction that stores it.

Exactly once: the fee and the event commit together, a repeat of the event is not stored and charges nothing, and a unique
key guards the fee. In turn: the events of a subscription and metric are charged one after the other, each priced by all
that had its turn before it (`Turn`), so that together they pay what the whole usage costs.

What can be invoiced is, at once and without grace, one invoice a charge and event, as Lago; the other fees are on no invoice:
the merchant collects them, and where the charge regroups them, the paid ones are put on one at the end of their period.
https://getlago.com/docs/guide/plans/charges/arrears-vs-advance
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import Charge, Metric, PlanVersion
from nozle_server.core.periods import Period
from nozle_server.customers import store as customers_store
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.event_log import EventRecord
from nozle_server.infra.seams import Seams
from nozle_server.infra.usage_store import UsageRow
from nozle_server.invoicing import advance_store
from nozle_server.invoicing import lines as invoice_lines
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.advance_store import Turn
from nozle_server.invoicing.amounts import taxed_line
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.line_taxes import tax_codes_of
from nozle_server.invoicing.model import (
    BillingReason,
    Invoice,
    InvoiceLine,
    InvoiceSubscription,
)
from nozle_server.invoicing.operations import issue_advance_charges, issue_invoice
from nozle_server.metering.model import MeterEvent
from nozle_server.payments.operations import record_paid
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.current_usage import tax_usage
from nozle_server.workflows.event_facts import EventFacts

FEE_CREATED = "fee.created"
_TICK = timedelta(microseconds=1)
_BILLED = ("counted", "late")

# Customers whose events are charged at once, by the names their events come under: they are held before their subscriptions
# are, the order that a change of plan holds them in. A name that is missing here costs no more than a second attempt.
_charged_at_once: dict[tuple[UUID, str | None, str | None], UUID] = {}
_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True)
class Charged:
    """A plan's charges that are paid in advance on one metric, and the subscription they are of."""

    subscription: Subscription
    version: PlanVersion
    charges: tuple[Charge, ...]


async def hold_customers(tx: Tx, org_id: UUID, events: Sequence[MeterEvent]) -> None:
    """Hold the customers known to be invoiced at their events, before anything else is held."""
    if not _charged_at_once:
        return
    known = {_charged_at_once.get((org_id, *_names(event))) for event in events}
    if found := {one for one in known if one is not None}:
        await customers_store.lock_many(tx, org_id, sorted(found))


def remember(org_id: UUID, record: EventRecord) -> None:
    """Have the customer of an event held first from now on."""
    assert record.customer_id is not None, "only a matched event is billed"
    if len(_charged_at_once) >= _REMEMBERED:
        _charged_at_once.clear()
    for customer in (record.external_customer_id, None):
        for subscription in (record.external_subscription_id, None):
            if customer or subscription:
                _charged_at_once[org_id, customer, subscription] = record.customer_id


def _names(event: MeterEvent) -> tuple[str | None, str | None]:
    return event.external_customer_id or None, event.external_subscription_id or None


async def versions_of(tx: Tx, org_id: UUID, facts: EventFacts) -> dict[UUID, PlanVersion]:
    """The plan of each subscription that events may be of; none is read twice by one process."""
    known = facts.subscriptions.by_id
    ids = list(dict.fromkeys(one.subscription.plan_version_id for one in known.values()))
    versions = await plan_store.get_plan_versions(tx, org_id, ids)
    return {one.subscription.id: versions[one.subscription.plan_version_id] for one in known.values()}


def charged_at_once(
    records: Sequence[EventRecord], versions: Mapping[UUID, PlanVersion], facts: EventFacts
) -> dict[Turn, Charged]:
    """Which subscriptions and metrics among these events are charged in advance: none, for most plans."""
    found: dict[Turn, Charged] = {}
    for record in records:
        if record.subscription_id is None or record.metric_id is None or record.status not in _BILLED:
            continue
        version = versions[record.subscription_id]
        charges = tuple(
            one for one in version.charges if one.pay_in_advance and one.metric_id == record.metric_id
        )
        if charges:
            subscription = facts.subscriptions.by_id[record.subscription_id].subscription
            found[record.subscription_id, record.metric_id] = Charged(subscription, version, charges)
    return found


async def take_turns(
    tx: Tx, org_id: UUID, records: Sequence[EventRecord], charged: Mapping[Turn, Charged]
) -> dict[UUID, datetime]:
    """Wait for the turn of these events; when each of them counts as received, by its id: after all that had their turn
    before, whatever the clocks of the processes say that took them in."""
    for record in records:
        one = charged.get(_turn(record))
        if one is not None and any(charge.invoiceable for charge in one.charges):
            remember(org_id, record)
    customers = {
        one.subscription.customer_id
        for one in charged.values()
        if any(charge.invoiceable for charge in one.charges)
    }
    if customers:
        await customers_store.lock_many_now(tx, org_id, sorted(customers))
    last = await advance_store.hold_turns(tx, org_id, sorted(charged))
    received: dict[UUID, datetime] = {}
    for record in records:
        turn = _turn(record)
        if turn in charged:
            at = record.received_at
            if (at, record.id) <= last[turn]:
                at = last[turn][0] + _TICK
            received[record.id] = at
            last[turn] = (at, record.id)
    await advance_store.set_turns(tx, org_id, last)
    return received


async def charge_events(
    tx: Tx,
    seams: Seams,
    *,
    stored: Sequence[EventRecord],
    charged: Mapping[Turn, Charged],
    metrics: Mapping[str, Metric],
    now: datetime,
) -> None:
    """Charge newly stored events, whose turn it is, in their order. `metrics` are theirs, by code."""
    pricing = EventPricing(tx, seams)
    for event in stored:
        if (one := charged.get(_turn(event))) is None or event.quantity is None:
            continue
        period = one.subscription.period_at(event.occurred_at, one.version.usage_interval)
        if event.status == "late" and not one.subscription.bills(period):
            continue
        for charge in one.charges:
            if not invoice_lines.is_charged(charge, event):
                continue
            line = await pricing.line(one, charge, metrics[event.code], period, event, now)
            await _charge(tx, seams, one, charge, period, line, now)


async def charge_taken_over(
    tx: Tx,
    seams: Seams,
    *,
    subscription: Subscription,
    events: Sequence[EventRecord],
    metrics: Mapping[str, Metric],
    now: datetime,
) -> None:
    """Charge stored events that a subscription took over from the one before it, which had not charged them."""
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    arrived = sorted(
        (replace(event, subscription_id=subscription.id) for event in events),
        key=lambda event: (event.received_at, event.id),
    )
    charged: dict[Turn, Charged] = {}
    for event in arrived:
        charges = tuple(
            one for one in version.charges if one.pay_in_advance and one.metric_id == event.metric_id
        )
        if charges:
            charged[_turn(event)] = Charged(subscription, version, charges)
    if charged:
        await customers_store.lock_many_now(tx, subscription.org_id, [subscription.customer_id])
        await advance_store.hold_turns(tx, subscription.org_id, sorted(charged))
        await charge_events(tx, seams, stored=arrived, charged=charged, metrics=metrics, now=now)


class EventPricing:
    """Prices events one by one. The usage after one is the usage before the next, and not read twice."""

    def __init__(self, tx: Tx, seams: Seams) -> None:
        self._tx, self._seams = tx, seams
        self._so_far: dict[tuple[UUID, UUID, datetime], Sequence[UsageRow]] = {}
        self._chains: dict[UUID, tuple[UUID, ...]] = {}

    async def line(
        self,
        one: Charged,
        charge: Charge,
        metric: Metric,
        period: Period,
        event: EventRecord,
        now: datetime,
    ) -> InvoiceLine:
        """The fee of a stored event, before taxes and on no invoice. Reads all usage of the period once."""
        subscription = one.subscription
        earlier = await self._earlier(subscription) if metric.recurring else ()
        window = invoice_lines.usage_window(subscription, period, earlier)
        price = invoice_lines.event_price(charge, metric, window, event)
        key = (charge.id, subscription.id, period.start)
        before = self._so_far.get(key)
        if before is None:
            before = await self._seams.usage_store.usage(self._tx, subscription.org_id, price.before)
        after = await self._seams.usage_store.usage(self._tx, subscription.org_id, price.after)
        self._so_far[key] = after
        return invoice_lines.event_line(
            subscription, one.version, charge, metric, period, event, price, before, after, now
        )

    async def _earlier(self, subscription: Subscription) -> tuple[UUID, ...]:
        if subscription.id not in self._chains:
            chains = await subscriptions_store.chains(self._tx, subscription.org_id, [subscription.id])
            self._chains[subscription.id] = chains.get(subscription.id, ())
        return self._chains[subscription.id]


async def _charge(
    tx: Tx, seams: Seams, one: Charged, charge: Charge, period: Period, line: InvoiceLine, now: datetime
) -> None:
    if charge.invoiceable:
        about = InvoiceSubscription(
            subscription_id=one.subscription.id,
            reason=BillingReason.IN_ADVANCE_CHARGE,
            period_start=period.start,
            period_end=period.end,
            charges_start=period.start,
            charges_end=period.end,
        )
        draft = InvoiceDraft(
            org_id=line.org_id,
            customer_id=line.customer_id,
            currency=line.currency,
            lines=(line,),
            subscriptions=(about,),
            tax_codes={line.id: tax_codes_of(one.version, line)},
        )
        await issue_invoice(tx, seams, draft, now=now)
        await _announce(tx, seams, line)
    else:
        await keep_apart(tx, seams, one.version, [line])


async def keep_apart(tx: Tx, seams: Seams, version: PlanVersion, lines: Sequence[InvoiceLine]) -> None:
    """Store fees that are on no invoice, with their taxes, which the merchant collects with them."""
    if not lines:
        return
    taxed = await tax_lines(tx, version, lines)
    await invoicing_store.insert_lines(tx, taxed)
    for line in taxed:
        await _announce(tx, seams, line)


async def tax_lines(tx: Tx, version: PlanVersion, lines: Sequence[InvoiceLine]) -> list[InvoiceLine]:
    """Each line with its own taxes, rounded by itself: every one of them is collected by itself."""
    taxed = []
    for line in lines:
        [taxation] = (await tax_usage(tx, line.customer_id, version, [line])).lines
        taxed.append(taxed_line(line, Decimal(line.amount_cents), taxation))
    return taxed


async def _announce(tx: Tx, seams: Seams, line: InvoiceLine) -> None:
    payload = {"amount_cents": line.amount_cents, "event_transaction_id": line.event_transaction_id}
    await seams.change_bus.publish(tx, Change(line.org_id, FEE_CREATED, str(line.id), payload))


async def regroup_paid_fees(
    tx: Tx, seams: Seams, *, subscriptions: Sequence[Subscription], at: datetime, now: datetime
) -> Invoice | None:
    """Put the paid fees of these subscriptions of one customer, whose periods end at `at`, on one invoice that is paid
    already; None when there are none that a charge wants regrouped. Where a subscription ends, those of the period that it
    ends in too. Fees that are paid later are on the next one."""
    first = subscriptions[0]
    ends = any(one.status is not Status.ACTIVE for one in subscriptions)
    lines = await advance_store.lock_paid(
        tx,
        first.org_id,
        first.customer_id,
        sorted({one.external_id for one in subscriptions}),
        ended_by=None if ends else at,
    )
    wanted = [line for line in lines if await _is_regrouped(tx, line)]
    if not wanted:
        return None
    currency = wanted[0].currency
    wanted = [line for line in wanted if line.currency == currency]
    invoice = await issue_advance_charges(tx, seams, wanted, now=now)
    await record_paid(tx, seams, invoice, reference="Fees paid in advance", now=now)
    return invoice


async def _is_regrouped(tx: Tx, line: InvoiceLine) -> bool:
    assert line.plan_version_id is not None, "a fee in advance is of a plan"
    version = await plan_store.get_plan_version(tx, line.org_id, line.plan_version_id)
    return any(
        charge.id == line.charge_id and charge.regroup_paid_fees == "invoice" for charge in version.charges
    )


def _turn(record: EventRecord) -> Turn:
    nobody = UUID(int=0)
    return record.subscription_id or nobody, record.metric_id or nobody
