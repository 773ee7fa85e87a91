"""A customer on a plan: from when, until when, and which billing period runs."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from nozle_server.core.periods import BillingCalendar, BillingTime, Interval, Period


class Status(StrEnum):
    """`pending` starts later; `terminated` ended by itself or by a change of plan; `canceled` ended by request."""

    PENDING = "pending"
    ACTIVE = "active"
    TERMINATED = "terminated"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's subscription to one version of a plan.

    Periods are counted from `started_at` in `timezone`, both fixed when it starts. `current_period` is the one that
    the last billing run opened; usage before `billed_through` is on a finalized invoice.
    """

    org_id: UUID
    id: UUID
    external_id: str
    customer_id: UUID
    plan_id: UUID
    plan_version_id: UUID
    name: str | None
    status: Status
    billing_time: BillingTime
    timezone: str
    started_at: datetime
    ending_at: datetime | None
    terminated_at: datetime | None
    canceled_at: datetime | None
    current_period_start: datetime
    current_period_end: datetime
    billed_through: datetime
    created_at: datetime

    def calendar(self, interval: Interval) -> BillingCalendar:
        """The billing calendar, given the interval of the plan version."""
        return BillingCalendar(self.started_at, interval, self.billing_time, self.timezone)

    def is_active_at(self, instant: datetime) -> bool:
        """Whether the customer has the plan at `instant`: from the start on, up to but not including the end."""
        end = self.terminated_at or self.ending_at
        return self.started_at <= instant and (end is None or instant < end)

    def period_at(self, instant: datetime, interval: Interval) -> Period:
        """The billing period around an instant of the subscription's life, cut at its end."""
        if self.current_period_start <= instant < self.current_period_end:
            return Period(self.current_period_start, self.current_period_end)
        period = self.calendar(interval).period_at(instant)
        end = self.terminated_at or self.ending_at
        return period if end is None or end >= period.end else Period(period.start, end)
