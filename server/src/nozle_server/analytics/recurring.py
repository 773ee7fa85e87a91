"""Monthly recurring revenue: subscription fees as parts of months. Pure.

As Lago: a monthly fee counts in the month of its invoice. A longer one is spread over the months it is for: forward from
its invoice when paid in advance, the first month by the days that are left of it; backward when paid in arrears. Of weekly
fees the average counts 4.33 times. https://getlago.com/docs/guide/analytics/overview
"""

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal, localcontext
from math import ceil

from nozle_server.analytics.model import SubscriptionFees
from nozle_server.core.allocation import allocate
from nozle_server.core.periods import Interval
from nozle_server.core.rounding import EXACT, divide, to_cents

DAYS_A_MONTH = Decimal("30.44")
WEEKS_A_MONTH = Decimal("4.33")


def by_month(fees: Iterable[SubscriptionFees]) -> dict[tuple[date, str], int]:
    """Minor units by (first day of the month, currency); the parts of a fee longer than a week sum to it."""
    months: dict[tuple[date, str], int] = defaultdict(int)
    weekly: dict[tuple[date, str], list[SubscriptionFees]] = defaultdict(list)
    for fee in fees:
        issued_in = fee.issued_on.replace(day=1)
        match fee.interval:
            case Interval.WEEKLY:
                weekly[issued_in, fee.currency].append(fee)
            case Interval.MONTHLY:
                months[issued_in, fee.currency] += fee.amount_cents
            case _:
                for month, part in spread(fee):
                    months[month, fee.currency] += part
    for key, of_month in weekly.items():
        months[key] += _weekly(of_month)
    return dict(months)


def spread(fee: SubscriptionFees) -> list[tuple[date, int]]:
    """The months that a fee is for, with its part in each."""
    length = divide(Decimal(fee.days), DAYS_A_MONTH)
    count = max(1, ceil(length))
    with localcontext(EXACT):
        weights = [Decimal(1)] * (count - 1)
        if fee.pay_in_advance and weights:
            last_day = monthrange(fee.issued_on.year, fee.issued_on.month)[1]
            weights[0] = divide(Decimal(last_day - fee.issued_on.day + 1), Decimal(last_day))
        weights.append(max(Decimal(0), length - sum(weights, Decimal(0))))
    parts = allocate(fee.amount_cents, weights)
    step = 1 if fee.pay_in_advance else -1
    return [(_months_later(fee.issued_on, step * n), part) for n, part in enumerate(parts)]


def _weekly(fees: Sequence[SubscriptionFees]) -> int:
    total = sum(fee.amount_cents for fee in fees)
    with localcontext(EXACT):
        return to_cents(divide(total * WEEKS_A_MONTH, Decimal(sum(fee.count for fee in fees))))


def _months_later(day: date, months: int) -> date:
    year, month0 = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month0 + 1, 1)
