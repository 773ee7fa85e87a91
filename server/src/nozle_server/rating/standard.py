"""Standard: every unit costs the same.

https://getlago.com/docs/guide/plans/charges/charge-models/standard
"""

from decimal import Decimal

from nozle_server.catalog.charge_models import Standard
from nozle_server.core.money import to_minor
from nozle_server.rating.lines import Step, Usage, priced


def steps(model: Standard, usage: Usage, currency: str) -> tuple[Step, ...]:
    kind = "units" if usage.prorated_units is None else "prorated_units"
    return (priced(kind, usage.priced_units, to_minor(model.amount, currency)),)


def marginal_price_cents(model: Standard, currency: str) -> Decimal:
    return to_minor(model.amount, currency)
