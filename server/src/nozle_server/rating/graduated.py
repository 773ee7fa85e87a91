"""Graduated: each unit costs what its tier says, and every tier reached adds its flat amount.

The first tier is always reached, also by a usage of 0: its flat amount is the price of having the charge.
https://getlago.com/docs/guide/plans/charges/charge-models/graduated, and for 0
https://github.com/getlago/lago-api/pull/5760
"""

from decimal import Decimal

from nozle_server.catalog.charge_models import Graduated
from nozle_server.core.money import to_minor
from nozle_server.rating.lines import Step, Usage
from nozle_server.rating.tiers import tier_of, tier_step, units_below


def steps(model: Graduated, usage: Usage, currency: str) -> tuple[Step, ...]:
    walk: list[Step] = []
    for one in model.ranges:
        below = units_below(one)
        if walk and usage.units <= below:
            break
        end = usage.units if one.to_value is None else min(usage.units, Decimal(one.to_value))
        walk.append(tier_step("tier", one, end - below, currency))
    return tuple(walk)


def marginal_price_cents(model: Graduated, used: Decimal, currency: str) -> Decimal:
    """The unit price of the tier that unit `used` + 1 lies in, without the flat amount of a tier it opens."""
    return to_minor(tier_of(model.ranges, used + 1).per_unit_amount, currency)
