"""Prices as they are published, and what a quantity costs at them: the demonstration's own arithmetic.

Amounts are in cents as exact decimals. Ranges are Lago's: bounds on whole units, both inclusive, so the
range from 100,001 to 500,000 holds 400,000 units and begins where 100,000 have been counted.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext

from nozle_demo.errors import UsageError
from nozle_demo.exact import Json, decimal

_EXPONENTS = {"JPY": 0, "KRW": 0, "CLP": 0, "VND": 0, "KWD": 3, "BHD": 3, "TND": 3}
_DIGITS = 60


@dataclass(frozen=True)
class Tier:
    """Units above `after` up to and including `up_to` (None: no end); prices in cents."""

    after: Decimal
    up_to: Decimal | None
    per_unit_cents: Decimal
    flat_cents: Decimal


@dataclass(frozen=True)
class Price:
    """A charge model with its tiers; `standard` is one tier without end."""

    model: str
    tiers: tuple[Tier, ...]

    def amount_cents(self, units: Decimal) -> Decimal:
        """The exact price of `units`."""
        if units == 0:
            return Decimal(0)
        with localcontext() as context:
            context.prec = _DIGITS
            return self._graduated(units) if self.model == "graduated" else self._whole(units)

    def tier_of(self, units: Decimal) -> int:
        """The number, from 0, of the tier that the last of `units` falls in."""
        return next(n for n, tier in enumerate(self.tiers) if tier.up_to is None or units <= tier.up_to)

    def _graduated(self, units: Decimal) -> Decimal:
        total = Decimal(0)
        for tier in self.tiers:
            if units <= tier.after:
                break
            end = units if tier.up_to is None else min(units, tier.up_to)
            total += (end - tier.after) * tier.per_unit_cents + tier.flat_cents
        return total

    def _whole(self, units: Decimal) -> Decimal:
        tier = self.tiers[self.tier_of(units)]
        return units * tier.per_unit_cents + tier.flat_cents


@dataclass(frozen=True)
class Charge:
    """What one metric costs on a plan; a filter prices the events whose properties match all its values."""

    base: Price
    filters: tuple[tuple[dict[str, tuple[str, ...]], Price], ...]

    def price_for(self, properties: dict[str, str]) -> Price:
        for values, price in self.filters:
            if all(properties.get(key) in wanted for key, wanted in values.items()):
                return price
        return self.base


def round_cents(amount: Decimal) -> int:
    """Half away from zero, once, on the line."""
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def read_charge(charge: Json, currency: str) -> Charge:
    """A charge of `GET /core/api/v1/plans/{code}`."""
    model, scale = str(charge["charge_model"]), Decimal(10) ** _EXPONENTS.get(currency, 2)
    filters = tuple(
        (_read_values(item["values"]), _read_price(model, item["properties"], scale))
        for item in charge.get("filters") or []
    )
    return Charge(_read_price(model, charge["properties"], scale), filters)


def _read_values(values: Json) -> dict[str, tuple[str, ...]]:
    return {key: tuple(map(str, wanted)) for key, wanted in values.items()}


def _read_price(model: str, properties: Json, scale: Decimal) -> Price:
    if model == "standard":
        return Price(model, (Tier(Decimal(0), None, decimal(properties["amount"]) * scale, Decimal(0)),))
    if model not in ("graduated", "volume"):
        raise UsageError(f"the demonstration does not know the charge model {model!r}")
    tiers: list[Tier] = []
    for item in properties[f"{model}_ranges"]:
        after = tiers[-1].up_to if tiers else Decimal(0)
        if after is None:
            raise UsageError("a published range follows one without an end")
        up_to = None if item["to_value"] is None else decimal(item["to_value"])
        per_unit, flat = decimal(item["per_unit_amount"]), decimal(item["flat_amount"])
        tiers.append(Tier(after, up_to, per_unit * scale, flat * scale))
    return Price(model, tuple(tiers))
