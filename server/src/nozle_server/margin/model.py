"""Revenue against cost, in rows that any report can add up."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Range:
    """[start, end) of a report; None is without bound on that side."""

    start: datetime | None
    end: datetime | None

    def contains(self, instant: datetime) -> bool:
        return (self.start is None or self.start <= instant) and (self.end is None or instant < self.end)

    def touches(self, start: datetime, end: datetime) -> bool:
        """Whether some of [start, end) lies inside."""
        return (self.start is None or self.start < end) and (self.end is None or start < self.end)


@dataclass(frozen=True, slots=True)
class RevenueRow:
    """Revenue in cents with what it belongs to. `metric_code` None: a subscription fee, at `at` by day."""

    customer_id: UUID
    plan_id: UUID
    metric_code: str | None
    model: str
    at: datetime
    amount_cents: Decimal


@dataclass(frozen=True, slots=True)
class CostRow:
    """Events with what they cost the merchant; `customer_id` and `plan_id` None: matched to nobody."""

    customer_id: UUID | None
    plan_id: UUID | None
    metric_code: str
    model: str
    at: datetime
    cost_cents: Decimal
    units: Decimal
    input_tokens: Decimal
    output_tokens: Decimal
    events_count: int
    uncosted_events_count: int


@dataclass(slots=True)
class Figures:
    """Sums of one line of a report, in cents."""

    usage_revenue: Decimal = Decimal(0)
    subscription_revenue: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    units: Decimal = Decimal(0)
    input_tokens: Decimal = Decimal(0)
    output_tokens: Decimal = Decimal(0)
    events_count: int = 0
    uncosted_events_count: int = 0

    @property
    def revenue(self) -> Decimal:
        return self.usage_revenue + self.subscription_revenue

    @property
    def margin(self) -> Decimal:
        return self.revenue - self.cost

    def add_revenue(self, row: RevenueRow) -> None:
        if row.metric_code is None:
            self.subscription_revenue += row.amount_cents
        else:
            self.usage_revenue += row.amount_cents

    def add_cost(self, row: CostRow) -> None:
        self.cost += row.cost_cents
        self.units += row.units
        self.input_tokens += row.input_tokens
        self.output_tokens += row.output_tokens
        self.events_count += row.events_count
        self.uncosted_events_count += row.uncosted_events_count
