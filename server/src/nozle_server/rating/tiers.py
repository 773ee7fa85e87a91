"""Where the tiers of graduated and volume prices begin and end.

Lago writes tiers as inclusive whole numbers (0-10, 11-20, 21-), and counts a usage of 10.5 as 10 units in
the first and half a unit in the second. So a tier reaches from the end of the one before, not included, to
its own end, included; the boundaries of whole units come out the same, and no fraction falls between two
tiers.
"""

from collections.abc import Sequence
from decimal import Decimal

from nozle_server.catalog.charge_models import PriceRange
from nozle_server.core.money import to_minor
from nozle_server.rating.lines import Step


def units_below(one: PriceRange) -> Decimal:
    """How many units come before the tier: 0, 10 and 20 in the example above."""
    return Decimal(max(one.from_value - 1, 0))


def tier_of(ranges: Sequence[PriceRange], units: Decimal) -> PriceRange:
    """The tier that the last of `units` lies in; usage of 0 lies in the first."""
    return next(one for one in ranges if one.to_value is None or units <= one.to_value)


def tier_step(kind: str, one: PriceRange, units: Decimal, currency: str) -> Step:
    """The units of one tier at its price, with its flat amount."""
    unit_price, flat = to_minor(one.per_unit_amount, currency), to_minor(one.flat_amount, currency)
    label = f"{one.from_value}-{'' if one.to_value is None else one.to_value}"
    return Step(kind, units, unit_price, flat, units * unit_price + flat, label)
