"""What a metric's units cost in credits, and how a rate's versions follow each other. Pure functions of values."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from nozle_server.catalog.credit_model import CreditRate
from nozle_server.catalog.model import Aggregation, Metric
from nozle_server.core.numbers import FRACTION_DIGITS
from nozle_server.core.rounding import EXACT, divide


def credits_required(metric_amount: Decimal, rate: CreditRate) -> Decimal:
    """What `metric_amount` units of the rate's metric cost: units x credit_amount / metric_amount, multiplied before it is
    divided, rounded once, half away from zero, to 12 decimals.

    https://docs.nozle.dev/docs/credits (contract 2.9)
    """
    return divide(EXACT.multiply(metric_amount, rate.credit_amount), rate.metric_amount, FRACTION_DIGITS)


def is_consumable(metric: Metric) -> bool:
    """Whether each event of the metric has a quantity of its own that can be paid for: a count, or the sum of a property."""
    if metric.aggregation is Aggregation.COUNT:
        return True
    return metric.aggregation is Aggregation.SUM and not (metric.expression or metric.recurring)


def current_rate(versions: Sequence[CreditRate], at: datetime) -> CreditRate | None:
    """The version that holds at an instant; None when none does."""
    return next((one for one in versions if one.holds_at(at)), None)


def close_from(versions: Sequence[CreditRate], at: datetime) -> list[CreditRate]:
    """The versions that change so that none holds from `at` on. Those that had not begun then hold for no time at all."""
    return [
        replace(one, effective_to=max(at, one.effective_from))
        for one in versions
        if one.effective_to is None or one.effective_to > max(at, one.effective_from)
    ]
