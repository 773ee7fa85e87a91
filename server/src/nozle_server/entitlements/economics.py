"""The figures of unit economics that stand in events and not in a snapshot: averages, and how far a price has been used.

They are estimates of the next use, no limits, so a few seconds old is as good.
"""

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog.model import Charge, ChargeFilter
from nozle_server.core.clock import Clock
from nozle_server.costs import store as costs_store
from nozle_server.costs.model import CostType
from nozle_server.costs.queries import average_cost_cents, cost_model_of_next_unit
from nozle_server.costs.unit_cost import marginal_cents
from nozle_server.entitlements.policy import Gap
from nozle_server.entitlements.price_position import price_position
from nozle_server.entitlements.snapshot import MetricFacts, OrganizationSnapshot
from nozle_server.infra.database import Database, Tx
from nozle_server.infra.estimates import Estimate, Estimates
from nozle_server.infra.usage_store import UsageStore, Window
from nozle_server.subscriptions.model import Subscription

KEPT_S = 5.0
KEPT_EMPTY_S = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A figure, and how it is read where it is not known, at an instant of the organization's time. The key names all that it
    is read by. From `ends_at` on it is another that is wanted. `stands_still` if the organization's time does."""

    key: Hashable
    read: Callable[[Tx, datetime], Awaitable[Decimal | None]]
    ends_at: datetime | None = None
    stands_still: bool = False


class Economics:
    """One a process; bounded, and emptied by `forget_all` (`/admin/reload`). Figures in use are read again before they are too
    old while `keep_fresh` runs, at the time that `clock` tells."""

    def __init__(
        self, database: Database, usage_store: UsageStore, clock: Clock, estimates: Estimates | None = None
    ) -> None:
        self._database, self._usage_store, self._clock = database, usage_store, clock
        self._estimates = estimates or Estimates(kept_s=KEPT_S, kept_empty_s=KEPT_EMPTY_S)

    def peek(self, wanted: Wanted, max_age_s: float | None) -> Estimate | None:
        """The figure, where it is known, `max_age_s` old at most."""
        return self._estimates.peek(wanted.key, max_age_s)

    async def get(self, wanted: Wanted, max_age_s: float | None, now: datetime) -> Estimate:
        """The figure at the organization's `now`, of which one caller at a time asks the database; who sets an age asks for
        itself."""

        async def read(now: datetime) -> Decimal | None:
            async with self._database.connection() as connection:
                return await wanted.read(connection, now)

        ahead = None if wanted.stands_still else lambda: read(self._clock.now())
        return await self._estimates.get(wanted.key, lambda: read(now), max_age_s, ahead=ahead)

    async def keep_fresh(self) -> None:
        """Read figures in use again before they lapse, until cancelled."""
        await self._estimates.keep_fresh()

    def within(self, tx: Tx, *, as_of_now: bool = False) -> "Economics":
        """The same for who has a connection in hand, which is used: who holds one while waiting for another may wait for
        those who do likewise. With `as_of_now` nothing that is known is good enough."""
        return _Within(self, tx, as_of_now)

    def forget_all(self) -> None:
        self._estimates.forget_all()

    def position(
        self,
        subscription: Subscription,
        charge: Charge,
        matched: ChargeFilter | None,
        window: Window,
    ) -> Wanted:
        """How far the price has been used that the next unit has."""

        async def read(tx: Tx, _now: datetime) -> Decimal:  # the period says when
            return await price_position(
                tx,
                self._usage_store,
                subscription=subscription,
                charge=charge,
                matched=matched,
                window=window,
            )

        filter_id = matched.id if matched else None
        key = ("position", subscription.org_id, subscription.id, charge.id, filter_id, window)
        return Wanted(key, read, ends_at=window.end)


class _Within(Economics):
    def __init__(self, outer: Economics, tx: Tx, as_of_now: bool) -> None:
        super().__init__(outer._database, outer._usage_store, outer._clock, outer._estimates)
        self._tx, self._as_of_now = tx, as_of_now

    def peek(self, wanted: Wanted, max_age_s: float | None) -> Estimate | None:
        """As `Economics.peek`."""
        return None if self._as_of_now else super().peek(wanted, max_age_s)

    async def get(
        self,
        wanted: Wanted,
        max_age_s: float | None,
        now: datetime,
    ) -> Estimate:
        """As `Economics.get`, each caller for itself: nobody else waits for what this connection finds."""
        age = 0.0 if self._as_of_now else KEPT_S if max_age_s is None else max_age_s
        return await self._estimates.get(wanted.key, lambda: wanted.read(self._tx, now), age)


@dataclass(frozen=True, slots=True)
class UnitCost:
    """What one more unit costs the merchant, in cents, or how to find out; whose cost model says so (None: an average has
    none), or why nobody can say."""

    cents: Decimal | Wanted
    cost_model_id: UUID | None = None
    gap: Gap | None = None


NO_COST = UnitCost(Decimal(0), gap=Gap.NO_COST_MODEL)


def unit_cost(
    organization: OrganizationSnapshot, metric: MetricFacts, *, model: str | None, now: datetime
) -> UnitCost:
    """What one more unit costs.

    By a per-unit cost model: its amount. By rates per AI model: the recent average of that AI model, since a unit is a
    mixture of input and output tokens (without a model: of all). By tiers: the price of the tier that the month's next
    unit falls in.
    """
    if not metric.cost_models:
        return NO_COST
    org_id = organization.org_id
    chosen = cost_model_of_next_unit(metric.cost_models, model)
    if chosen is None or chosen.cost_type is CostType.PER_MODEL:
        average = Wanted(
            ("average", org_id, metric.id, model, organization.test_now),
            lambda tx, at: average_cost_cents(tx, org_id, metric.id, model, at),
            stands_still=organization.test_now is not None,
        )
        return UnitCost(average)
    if chosen.cost_type is CostType.PER_UNIT:
        assert chosen.amount_cents is not None
        return UnitCost(chosen.amount_cents, chosen.id)
    month = now.date().replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)

    async def read(tx: Tx, _now: datetime) -> Decimal:  # the month says when
        return marginal_cents(chosen.tiers, await costs_store.month_quantity(tx, org_id, chosen.id, month))

    ends_at = datetime.combine(next_month, time(tzinfo=UTC))
    return UnitCost(Wanted(("tier", org_id, chosen.id, month), read, ends_at=ends_at), chosen.id)
