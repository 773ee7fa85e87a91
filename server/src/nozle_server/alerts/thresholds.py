"""Which thresholds a value has crossed. Pure.

As Lago: https://getlago.com/docs/guide/alerts/overview
"""

from collections.abc import Sequence
from decimal import Decimal, localcontext

from nozle_server.alerts.model import Direction, Threshold
from nozle_server.core.rounding import EXACT

MOST_REPEATS = 100
"""How many repeats of a recurring threshold one look tells of: the latest."""


def crossed(
    thresholds: Sequence[Threshold], before: Decimal, after: Decimal, direction: Direction
) -> tuple[Threshold, ...]:
    """The thresholds reached on the way from `before`, itself excluded, to `after`, itself included; in the order in which
    they were reached. Nothing when the value went the other way.

    A recurring threshold repeats from the last of the others, from 0 where there are none.
    """
    if direction is Direction.INCREASING:
        return _crossed_upwards(thresholds, before, after)
    # Downwards is upwards in a mirror; a step stays as long as it is there.
    mirrored = [one if one.recurring else Threshold(-one.value, one.code) for one in thresholds]
    reached = _crossed_upwards(mirrored, -before, -after)
    return tuple(Threshold(-one.value, one.code, one.recurring) for one in reached)


def _crossed_upwards(
    thresholds: Sequence[Threshold], before: Decimal, after: Decimal
) -> tuple[Threshold, ...]:
    once = sorted((one for one in thresholds if not one.recurring), key=lambda one: one.value)
    found = [one for one in once if before < one.value <= after]
    last = once[-1].value if once else Decimal(0)
    for step in thresholds:
        if step.recurring and after > last:
            found += _repeats(step, last, max(before, last), after)
    return tuple(found)


def _repeats(step: Threshold, last: Decimal, before: Decimal, after: Decimal) -> list[Threshold]:
    with localcontext(EXACT):
        first = _whole_steps(before - last, step.value) + 1
        final = _whole_steps(after - last, step.value)
        numbers = range(max(first, final - MOST_REPEATS + 1), final + 1)
        return [Threshold(last + n * step.value, step.code, recurring=True) for n in numbers]


def _whole_steps(distance: Decimal, step: Decimal) -> int:
    with localcontext(EXACT):
        return int(distance // step)
