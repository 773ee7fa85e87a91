"""Where the tiers of graduated and volume prices begin and end, and the walk through them.

Lago writes tiers as inclusive whole numbers (0-10, 11-20, 21-), and counts a usage of 10.5 as 10 units in
the first and half a unit in the second. So a tier reaches from the end of the one before, not included, to
its own end, included; the boundaries of whole units come out the same, and no fraction falls between two
tiers.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TypeVar

from nozle_server.catalog.charge_models import PercentageRange, PriceRange, Range
from nozle_server.core.money import to_minor
from nozle_server.rating.lines import Step

_PERCENT = Decimal("0.01")
R = TypeVar("R", PriceRange, PercentageRange)


def units_below(one: Range) -> Decimal:
    """How many units come before the tier: 0, 10 and 20 in the example above."""
    return Decimal(max(one.from_value - 1, 0))


def tier_of(ranges: Sequence[R], units: Decimal) -> R:
    """The tier that the last of `units` lies in; usage of 0 lies in the first."""
    return next(one for one in ranges if one.to_value is None or units <= one.to_value)


def split(ranges: Sequence[R], units: Decimal) -> Iterator[tuple[R, Decimal]]:
    """Every tier that `units` reach, and the units that lie in it; the first is always reached."""
    for one in ranges:
        below = units_below(one)
        if one is not ranges[0] and units <= below:
            return
        end = units if one.to_value is None else min(units, Decimal(one.to_value))
        yield one, end - below


def between(ranges: Sequence[R], low: Decimal, high: Decimal) -> Iterator[tuple[R, Decimal]]:
    """The tiers that the units above `low` up to `high` lie in, and how many lie in each."""
    for one in ranges:
        start = max(low, units_below(one))
        end = high if one.to_value is None else min(high, Decimal(one.to_value))
        if end > start:
            yield one, end - start


def tier_step(kind: str, one: PriceRange | PercentageRange, units: Decimal, currency: str) -> Step:
    """The units of one tier at its price, with its flat amount."""
    unit_price, flat = unit_price_cents(one, currency), to_minor(one.flat_amount, currency)
    return Step(kind, units, unit_price, flat, units * unit_price + flat, label(one))


def unit_price_cents(one: PriceRange | PercentageRange, currency: str) -> Decimal:
    """What a unit of the tier costs; where it is a percentage, a unit is one major unit of money."""
    if isinstance(one, PercentageRange):
        return to_minor(one.rate * _PERCENT, currency)
    return to_minor(one.per_unit_amount, currency)


def label(one: Range) -> str:
    """Lago's bounds of a tier: "11-20", or "21-" without end."""
    return f"{one.from_value}-{'' if one.to_value is None else one.to_value}"
