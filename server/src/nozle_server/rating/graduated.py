"""Graduated: each unit costs what its tier says, and every tier reached adds its flat amount.

The first tier is always reached, also by a usage of 0: its flat amount is the price of having the charge.
https://getlago.com/docs/guide/plans/charges/charge-models/graduated, and for 0
https://github.com/getlago/lago-api/pull/5760

Prorated, the events are walked in order of time: the full units of each say in which tiers they lie, and are paid
there by the part of the period they were there. An event that takes units away takes them from the top. The flat
amounts are those of the highest level reached.
"""

from decimal import Decimal

from nozle_server.catalog.charge_models import Graduated, PriceRange
from nozle_server.core.money import to_minor
from nozle_server.core.rounding import divide
from nozle_server.rating.lines import Step, Usage
from nozle_server.rating.tiers import between, split, tier_of, tier_step

_ZERO = Decimal(0)


def steps(model: Graduated, usage: Usage, currency: str) -> tuple[Step, ...]:
    if usage.prorated_units is not None:
        return _prorated(model, usage, currency)
    return tuple(tier_step("tier", one, units, currency) for one, units in split(model.ranges, usage.units))


def marginal_price_cents(model: Graduated, used: Decimal, currency: str) -> Decimal:
    """The unit price of the tier that unit `used` + 1 lies in, without the flat amount of a tier it opens."""
    return to_minor(tier_of(model.ranges, used + 1).per_unit_amount, currency)


def _prorated(model: Graduated, usage: Usage, currency: str) -> tuple[Step, ...]:
    """ValueError unless there is a prorated part for each transaction."""
    paid: dict[PriceRange, Decimal] = {}
    level = highest = _ZERO
    for units, part in zip(usage.transactions, usage.prorated_transactions, strict=True):
        before, level = level, level + units
        highest = max(highest, level)
        low, high = max(min(before, level), _ZERO), max(before, level, _ZERO)
        for one, inside in between(model.ranges, low, high):
            # Multiplied before it is divided: an event inside one tier pays its exact part.
            paid[one] = paid.get(one, _ZERO) + divide(inside * part, abs(units))
    return tuple(
        tier_step("tier", one, paid.get(one, _ZERO), currency) for one, _ in split(model.ranges, highest)
    )
