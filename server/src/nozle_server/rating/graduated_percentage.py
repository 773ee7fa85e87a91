"""Graduated percentage: each part of the units, an amount of money in major units, costs the percentage of its tier, and
every tier reached adds its flat amount.

The first tier is always reached, also by a usage of 0, as for graduated prices.
https://getlago.com/docs/guide/plans/charges/charge-models/graduated-percentage
"""

from decimal import Decimal

from nozle_server.catalog.charge_models import GraduatedPercentage
from nozle_server.rating.lines import Step, Usage
from nozle_server.rating.tiers import split, tier_of, tier_step, unit_price_cents


def steps(model: GraduatedPercentage, usage: Usage, currency: str) -> tuple[Step, ...]:
    return tuple(tier_step("tier", one, units, currency) for one, units in split(model.ranges, usage.units))


def marginal_price_cents(model: GraduatedPercentage, used: Decimal, currency: str) -> Decimal:
    """The percentage of one more unit in the tier it lies in, without the flat amount of a tier it opens."""
    return unit_price_cents(tier_of(model.ranges, used + 1), currency)
