"""What the falling of a customer's credits brings: alerts, and the wish for a top-up.

Looked at once for each time that an account is written, from what it held before to what it holds then: neither is told
twice of one fall, in however many processes.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits.budgets import window_of
from nozle_server.credits.model import ZERO, BudgetInterval

BALANCE_LOW = "credits.balance_low"
TOP_UP_WANTED = "credits.top_up_wanted"


class RuleStatus(StrEnum):
    """A rule is paused when a wish of its was declined, until it is set anew."""

    ACTIVE = "active"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Alert:
    """Told when the credits fall below `threshold`."""

    code: str
    name: str | None
    threshold: Decimal


@dataclass(frozen=True, slots=True)
class TopUpRule:
    """Below `threshold`, `amount` more credits are wished for, at most `monthly_cap` (None: any number) in a month of the
    customer. `wish_id` is the wish that waits for its answer."""

    amount: Decimal
    threshold: Decimal
    monthly_cap: Decimal | None = None
    status: RuleStatus = RuleStatus.ACTIVE
    wish_id: UUID | None = None
    wished_at: datetime | None = None
    month_start: datetime | None = None
    wished_in_month: Decimal = ZERO

    def wished(self, month: datetime) -> Decimal:
        """What has been wished for in the month that starts then."""
        return self.wished_in_month if self.month_start == month else ZERO

    def is_capped(self, month: datetime) -> bool:
        """Whether one more wish would exceed the month's cap."""
        return self.monthly_cap is not None and (
            EXACT.add(self.wished(month), self.amount) > self.monthly_cap
        )


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to be announced, under an id of its own."""

    id: UUID
    kind: str
    payload: dict[str, object]


def fallen(alerts: tuple[Alert, ...], before: Decimal, after: Decimal) -> list[Fact]:
    """The alerts whose threshold lies between: at or below what there was, above what there is."""
    return [
        Fact(
            new_id(),
            BALANCE_LOW,
            {"alert": alert.code, "name": alert.name, "threshold": alert.threshold, "balance": after},
        )
        for alert in alerts
        if before >= alert.threshold > after
    ]


def wish(rule: TopUpRule, left: Decimal, now: datetime, timezone: str) -> tuple[TopUpRule, Fact] | None:
    """The rule after it has wished for a top-up, and the wish; None when there is enough, a wish waits already, the rule
    is paused or the month's cap is reached."""
    month = month_of(now, timezone)
    if (
        left >= rule.threshold
        or rule.wish_id is not None
        or rule.status is not RuleStatus.ACTIVE
        or rule.is_capped(month)
    ):
        return None
    fact_id = new_id()
    wished = EXACT.add(rule.wished(month), rule.amount)
    after = replace(rule, wish_id=fact_id, wished_at=now, month_start=month, wished_in_month=wished)
    told = {"top_up_id": fact_id, "amount": rule.amount, "threshold": rule.threshold, "balance": left}
    return after, Fact(fact_id, TOP_UP_WANTED, told)


def month_of(now: datetime, timezone: str) -> datetime:
    """The first instant of the customer's calendar month."""
    return window_of(BudgetInterval.MONTH, now.replace(second=0, microsecond=0), timezone)[0]
