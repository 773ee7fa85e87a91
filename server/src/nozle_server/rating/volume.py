"""Volume: all units cost what the tier of their total says, plus the flat amount of that tier.

A total may fall as usage grows into a cheaper tier; that is its point. A usage of 0 lies in the first tier
and pays its flat amount. Prorated, the full units choose the tier and the prorated ones are priced.

https://getlago.com/docs/guide/plans/charges/charge-models/volume, and for 0
https://github.com/getlago/lago-api/pull/5760
"""

from decimal import Decimal

from nozle_server.catalog.charge_models import Volume
from nozle_server.core.money import to_minor
from nozle_server.rating.lines import Step, Usage
from nozle_server.rating.tiers import tier_of, tier_step


def steps(model: Volume, usage: Usage, currency: str) -> tuple[Step, ...]:
    tier = tier_of(model.ranges, usage.units)
    return (tier_step("volume_tier", tier, usage.priced_units, currency),)


def marginal_price_cents(model: Volume, used: Decimal, currency: str) -> Decimal:
    """The unit price of the tier that a total of `used` + 1 lies in.

    Not the difference of two totals, which jumps (and may be negative) where a tier begins.
    """
    return to_minor(tier_of(model.ranges, used + 1).per_unit_amount, currency)
