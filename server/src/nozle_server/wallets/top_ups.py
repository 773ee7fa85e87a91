"""When a recurring rule tops a wallet up, and by how much: https://getlago.com/docs/guide/wallet-and-prepaid-credits/wallet-top-up-and-void
(recurring top-ups)."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext

from nozle_server.core.periods import BillingCalendar, BillingTime, Interval, local_date, start_of_day
from nozle_server.core.rounding import EXACT
from nozle_server.wallets.conversion import credits_of, from_cents, whole_credits
from nozle_server.wallets.model import Method, RecurringRule, Wallet


@dataclass(frozen=True, slots=True)
class TopUp:
    """Credits to buy and credits to give."""

    paid_credits: Decimal
    granted_credits: Decimal

    def __bool__(self) -> bool:
        return self.paid_credits > 0 or self.granted_credits > 0


def next_top_up(anchor: datetime, interval: Interval, timezone: str, after: datetime) -> datetime:
    """The first local midnight after `after` on which an interval counted from `anchor`'s day begins. An anchor ahead
    is the first one itself."""
    first = start_of_day(local_date(anchor, timezone), timezone)
    if after < first:
        return first
    calendar = BillingCalendar(first, interval, BillingTime.ANNIVERSARY, timezone)
    return calendar.period_at(after).end


def is_below_threshold(rule: RecurringRule, ongoing_credits: Decimal, pending_credits: Decimal) -> bool:
    """Whether what is there, with what has been bought and not paid for yet, is at or below the rule's threshold."""
    with localcontext(EXACT):
        return ongoing_credits + pending_credits <= rule.threshold_credits


def plan_top_up(rule: RecurringRule, wallet: Wallet, ongoing_credits: Decimal) -> TopUp:
    """What the rule adds to a wallet with this ongoing balance. Up to a target, what is missing is bought, but not less
    than the wallet's smallest top-up; its largest does not bind, as reaching the target comes first."""
    if rule.method is Method.FIXED:
        return TopUp(rule.paid_credits, rule.granted_credits)
    assert rule.target_ongoing_balance is not None, "the database holds a target for this method"
    with localcontext(EXACT):
        missing = max(Decimal(0), rule.target_ongoing_balance - ongoing_credits)
    least = wallet.paid_top_up_min_amount_cents
    if missing and least is not None and not rule.ignore_paid_top_up_limits:
        missing = max(missing, credits_of(from_cents(least, wallet.currency), wallet.rate_amount))
    return TopUp(whole_credits(missing), Decimal(0))
