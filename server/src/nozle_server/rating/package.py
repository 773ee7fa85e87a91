"""Package: after the free units, each begun package costs its amount.

https://getlago.com/docs/guide/plans/charges/charge-models/package
"""

from decimal import Decimal

from nozle_server.catalog.charge_models import Package
from nozle_server.core.money import to_minor
from nozle_server.core.rounding import divide
from nozle_server.rating.lines import Step, Usage, free, priced


def steps(model: Package, usage: Usage, currency: str) -> tuple[Step, ...]:
    """The free units, and the paid packages: the units of the second step are packages."""
    free_units = min(usage.units, Decimal(model.free_units))
    full, begun = divmod(usage.units - free_units, model.package_size)
    packages = full + 1 if begun else full
    return (free(free_units), priced("packages", packages, to_minor(model.amount, currency)))


def marginal_price_cents(model: Package, used: Decimal, currency: str) -> Decimal:
    """One unit's share of a package, to 24 decimal places; 0 while unit `used` + 1 is still free."""
    if used + 1 <= model.free_units:
        return Decimal(0)
    return divide(to_minor(model.amount, currency), Decimal(model.package_size))
