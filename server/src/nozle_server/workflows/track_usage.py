"""Usage that credits are taken for: what it costs, whether it may be, and all that it changes, in one transaction.

A use of a metric is told in its own units, and costs what the metric's rate in a credit system says for the instant at which
it happened. What is taken is decided over the account as it is now. With the deduction, the operation and one meter event
are written; the event counts as usage and says that it is paid, so that no charge asks for it again.

(Contract 2.9.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.catalog import metric_store
from nozle_server.catalog.credit_model import CreditRate
from nozle_server.catalog.credit_rates import credits_required, is_consumable
from nozle_server.catalog.model import Metric
from nozle_server.catalog.queries import find_rate, unknown_metric
from nozle_server.core.errors import InvalidInput, RuleBroken, Unavailable
from nozle_server.core.ids import new_id, to_text
from nozle_server.core.rounding import EXACT
from nozle_server.credits import usage_store
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Deduction, Refusal, RefusedBudget
from nozle_server.credits.queries import find_book
from nozle_server.credits.spending import Spending
from nozle_server.credits.spending import deduct as spend
from nozle_server.credits.usage_model import OperationType, RateUsed, SourceMove, UsageOperation
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import get_customer
from nozle_server.entities.model import Entity, EntityStatus, PoolPolicy
from nozle_server.entities.queries import get_entity
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.metering.model import CREDITS, PAID_BY, MeterEvent
from nozle_server.metering.quantity import measure
from nozle_server.metering.timestamps import check_not_ahead
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.workflows.advance_charges import hold_customers
from nozle_server.workflows.ingest import ingest


@dataclass(frozen=True, slots=True)
class Use:
    """What was used, checked for form: by the merchant's ids and codes. `occurred_at` None: now. `credit_system` None: the
    one that rates the metric."""

    customer: str
    metric: str
    properties: Mapping[str, Any]
    occurred_at: datetime | None = None
    credit_system: str | None = None
    entity: str | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """What a use costs: `metric_amount` units of the metric, at the rate of its instant `credits` of the rate's system."""

    use: Use
    customer: Customer
    metric: Metric
    entity: Entity | None
    rate: CreditRate
    occurred_at: datetime
    metric_amount: Decimal
    credits: Decimal


@dataclass(frozen=True, slots=True)
class Tracked:
    """What became of a use, or would become of it. `available` is what could be spent before, `remaining` what can be after
    it; `deductions` what was taken of which grant. Denied, nothing changes, and `reason` says why."""

    quote: Quote
    operation_id: UUID
    customer_id: UUID
    entity_id: UUID | None
    pool_policy: PoolPolicy | None
    available: Decimal
    remaining: Decimal
    decided_at: datetime
    deductions: tuple[SourceMove, ...] = ()
    reason: Refusal | None = None
    budget: RefusedBudget | None = None

    @property
    def allowed(self) -> bool:
        return self.reason is None

    @property
    def operation_text(self) -> str:
        """What the operation is known by to the merchant, and its meter event too."""
        return to_text("txn", self.operation_id)


class RateChanged(Unavailable):
    """The rate that a use was quoted at holds no longer at its instant: quote it anew."""

    default_code = "credit_rate_changed"


async def quote_use(tx: Tx, org_id: UUID, use: Use, now: datetime) -> Quote:
    """What a use costs. NotFound for a customer, metric, entity or credit system that there is not; RuleBroken
    `metric_not_consumable`, `metric_not_rated`, `credit_system_ambiguous`, `missing_property`, `invalid_property`,
    `usage_not_positive`; InvalidInput for an instant more than a day ahead."""
    occurred_at = use.occurred_at or now
    check_not_ahead(occurred_at, now)
    if use.properties.get(PAID_BY, CREDITS) != CREDITS:
        raise InvalidInput(
            f"the property {PAID_BY} says who paid for usage: credits do",
            details={"properties": ["value_is_reserved"]},
        )
    customer = await get_customer(tx, org_id, use.customer)
    metric = await metric_store.find_metric(tx, org_id, use.metric)
    if metric is None:
        raise unknown_metric()
    entity = None if use.entity is None else await get_entity(tx, org_id, customer.id, use.entity)
    if not is_consumable(metric):
        raise RuleBroken(
            "only a count, or the sum of a property that is not recurring, can be paid by credits",
            code="metric_not_consumable",
        )
    rate = await find_rate(tx, org_id, use.credit_system, metric.id, occurred_at)
    if rate is None:
        raise RuleBroken("the metric had no rate in credits at that time", code="metric_not_rated")
    metric_amount = measure(metric, use.properties, value=None, occurred_at=occurred_at).quantity
    credits = credits_required(metric_amount, rate)
    if credits <= 0:
        raise RuleBroken(
            "the usage is not more than 0, or too little to cost anything",
            code="usage_not_positive",
            details={"properties": ["value_is_out_of_range"]},
        )
    return Quote(use, customer, metric, entity, rate, occurred_at, metric_amount, credits)


async def check_use(tx: Tx, org_id: UUID, use: Use, now: datetime) -> Tracked:
    """What tracking the use would do now. Changes nothing, and promises nothing. Errors as of `quote_use`."""
    quote = await quote_use(tx, org_id, use, now)
    book = await find_book(
        tx,
        org_id=org_id,
        customer=use.customer,
        now=now,
        credit_system=quote.rate.credit_system,
        entities=() if use.entity is None else (use.entity,),
    )
    return decide(quote, book, now)


def decide(quote: Quote, book: Book | None, now: datetime) -> Tracked:
    """Take what the use costs if every level allows it, otherwise nothing. An entity that is not active, or was deleted, is
    denied."""
    name, entity = quote.use.entity, quote.entity
    policy = None if entity is None else entity.pool_policy
    if book is None:
        refused = Deduction(False, ZERO, reason=Refusal.INSUFFICIENT_CREDITS)
        if entity is not None and entity.status is not EntityStatus.ACTIVE:
            refused = Deduction(False, ZERO, reason=Refusal.ENTITY_INACTIVE)
        return _denied(quote, refused, None if entity is None else entity.id, policy, now)
    level = None if name is None else book.levels[name]
    if name is not None and (level is None or not level.active):
        assert entity is not None, "it was quoted for one"
        inactive = Deduction(False, ZERO, reason=Refusal.ENTITY_INACTIVE)
        return _denied(quote, inactive, entity.id if level is None else level.id, policy, now)
    book.advance(now)
    available = book.available(book.pools(level))
    deduction = spend(book, Spending(quote.credits, feature=quote.metric.code, entity=name), now)
    entity_id, policy = (None, None) if level is None else (level.id, level.policy)
    if deduction.entry is None:
        return _denied(quote, deduction, entity_id, policy, now)
    moves = []
    for draw in deduction.draws:
        grant, left = book.grant(draw.grant_id), book.left(draw.grant_id)
        assert grant is not None, "what was drawn on is known"
        moves.append(SourceMove(grant, EXACT.add(left, draw.amount), left))
    return Tracked(
        quote,
        deduction.entry.id,
        book.account.customer_id,
        entity_id,
        policy,
        available,
        deduction.remaining,
        now,
        tuple(moves),
    )


def _denied(
    quote: Quote, refused: Deduction, entity_id: UUID | None, policy: PoolPolicy | None, now: datetime
) -> Tracked:
    return Tracked(
        quote,
        new_id(),
        quote.customer.id,
        entity_id,
        policy,
        refused.remaining,
        refused.remaining,
        now,
        reason=refused.reason,
        budget=refused.budget,
    )


async def hold_first(tx: Tx, quote: Quote) -> None:
    """Hold what everybody holds before an account: the customer, where its events are invoiced at once, and its running
    subscriptions."""
    org_id, name = quote.customer.org_id, quote.use.customer
    await hold_customers(tx, org_id, [_event(quote, "")])
    held: set[UUID] | None = None
    while True:
        # Again, until they are those that were held: who waited for one may not have seen what followed it.
        running = await subscriptions_store.hold_running(tx, org_id, [name], [])
        ids = {subscription.id for subscription, _, _ in running}
        if ids == held:
            return
        held = ids


async def record(tx: Tx, seams: Seams, tracked: Tracked) -> None:
    """Store what became of a use, in the transaction that holds its account; when it was allowed, its event too.
    RateChanged."""
    quote = tracked.quote
    operation = UsageOperation(
        org_id=quote.customer.org_id,
        id=tracked.operation_id,
        customer_id=tracked.customer_id,
        credit_system=quote.rate.credit_system,
        type=OperationType.CONSUME,
        reason=tracked.reason,
        entity_id=tracked.entity_id,
        rate=RateUsed(
            quote.metric.id,
            quote.metric_amount,
            quote.rate.id,
            quote.rate.metric_amount,
            quote.rate.credit_amount,
        ),
        credit_amount=quote.credits,
        occurred_at=quote.occurred_at,
        created_at=tracked.decided_at,
    )
    if not await usage_store.insert(tx, operation):
        raise RateChanged("the rate of this metric has just changed, try again")
    if tracked.allowed:
        event = _event(quote, tracked.operation_text)
        [stored] = await ingest(
            tx, seams, org_id=operation.org_id, events=[event], strict=False, now=tracked.decided_at
        )
        if stored.error is not None:
            raise stored.error


def _event(quote: Quote, transaction_id: str) -> MeterEvent:
    """The usage as it is metered, under the id of its operation."""
    return MeterEvent(
        transaction_id=transaction_id,
        external_customer_id=quote.use.customer,
        external_subscription_id=None,
        code=quote.metric.code,
        occurred_at=quote.occurred_at,
        properties={**quote.use.properties, PAID_BY: CREDITS},
        paid=True,
    )
