"""A customer on a plan: from when, until when, and which billing period runs."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from nozle_server.core.periods import BillingCalendar, BillingTime, Interval, Period


class Status(StrEnum):
    """`pending` starts later; `terminated` has run and ended; `canceled` was called off before it started."""

    PENDING = "pending"
    ACTIVE = "active"
    TERMINATED = "terminated"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's subscription to one version of a plan.

    Periods are counted from `subscription_at` in `timezone`, both fixed from the beginning; the first of them may be cut at
    `started_at`. A change of plan makes a new one with the same external id, whose `previous_subscription_id` is the old
    one; `initial_started_at` is when the first of such a chain started, from which its trial counts.

    `current_period` is the period of usage that the last billing run opened; usage before `billed_through` is on an
    invoice that is final, or nearly. `cancel_at_period_end` says that `ending_at` comes from a cancellation that can be
    taken back.
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
    subscription_at: datetime
    started_at: datetime
    initial_started_at: datetime
    ending_at: datetime | None
    terminated_at: datetime | None
    canceled_at: datetime | None
    current_period_start: datetime
    current_period_end: datetime
    billed_through: datetime
    created_at: datetime
    previous_subscription_id: UUID | None = None
    trial_ends_at: datetime | None = None
    trial_ended_at: datetime | None = None
    cancel_at_period_end: bool = False
    cancellation_reason: str | None = None
    on_termination_credit_note: str | None = None
    on_termination_invoice: str = "generate"

    def calendar(self, interval: Interval) -> BillingCalendar:
        """The billing calendar of an interval: the plan version's own for fees, its `usage_interval` for usage."""
        return BillingCalendar(self.subscription_at, interval, self.billing_time, self.timezone)

    def is_active_at(self, instant: datetime) -> bool:
        """Whether the customer has the plan at `instant`: from the start on, up to but not including the end. A pending one
        that should have begun by then counts, so that what happens before a late worker comes by is not lost."""
        if self.status is Status.CANCELED:
            return False
        end = self.terminated_at or self.ending_at
        return self.started_at <= instant and (end is None or instant < end)

    def period_at(self, instant: datetime, interval: Interval) -> Period:
        """The period of usage around an instant of the subscription's life, cut at its start and end; `interval` is the
        plan version's `usage_interval`."""
        if self.current_period_start <= instant < self.current_period_end:
            return Period(self.current_period_start, self.current_period_end)
        return self.cut(self.calendar(interval).period_at(instant))

    def bills(self, period: Period) -> bool:
        """Whether a closed period of usage is billed: not the periods that had passed when a subscription with an earlier
        start was made, nor the last one of a subscription that ended without an invoice."""
        if period.end <= self.created_at:
            return False
        return self.on_termination_invoice == "generate" or period.end != self.terminated_at

    def cut(self, period: Period) -> Period:
        """The part of a period in which the subscription runs; ValueError when there is none."""
        end = self.terminated_at or self.ending_at
        return Period(max(period.start, self.started_at), period.end if end is None else min(period.end, end))
