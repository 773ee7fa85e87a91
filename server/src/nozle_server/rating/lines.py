"""What rating takes and gives: usage in, a rated line out. Amounts are in minor units of the currency."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """What a charge is priced on: the metric's quantity in a period, and how many events made it.

    `transactions` is the quantity of each event in order of time. Only some percentage charges and graduated prorated
    ones read it (`needs_transactions`, `needs_parts` in `rate.py`); leave it empty for all others.

    `prorated_units` is there for a prorated charge: each unit counted by the part of the period it was there, where
    `units` counts it in full; `prorated_transactions` says it for each transaction. `amount_cents` is the sum of the
    events' own prices, which only a dynamic charge reads.
    """

    units: Decimal
    events_count: int
    transactions: Sequence[Decimal] = ()
    prorated_units: Decimal | None = None
    prorated_transactions: Sequence[Decimal] = ()
    amount_cents: Decimal = Decimal(0)

    @property
    def priced_units(self) -> Decimal:
        """The units that a price per unit is multiplied by."""
        return self.units if self.prorated_units is None else self.prorated_units


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of the walk that makes an amount: `units` x `unit_price_cents` + `flat_cents`.

    `kind` is stable: units, prorated_units, free_units, tier, volume_tier, packages, percentage, fixed_fee, dynamic,
    transaction_minimum, transaction_maximum, floor_at_zero, before_event. `label` says which one where there are
    several: the tier "11-20".
    """

    kind: str
    units: Decimal
    unit_price_cents: Decimal
    flat_cents: Decimal
    amount_cents: Decimal
    label: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is kept on a line."""
        return {
            "kind": self.kind,
            "units": self.units,
            "unit_price_cents": self.unit_price_cents,
            "flat_cents": self.flat_cents,
            "amount_cents": self.amount_cents,
            "label": self.label,
        }


@dataclass(frozen=True, slots=True)
class RatedLine:
    """Priced usage: the exact amount beside the settled one, which is rounded once, half away from zero.

    The amounts of `steps` sum to `exact_amount_cents`, and neither it nor `units` is negative. `units` are counted in
    full, also where the price is prorated.
    """

    units: Decimal
    exact_amount_cents: Decimal
    amount_cents: int
    steps: tuple[Step, ...]


def priced(kind: str, units: Decimal, unit_price_cents: Decimal, *, label: str = "") -> Step:
    """A step of units at a price."""
    return Step(kind, units, unit_price_cents, Decimal(0), units * unit_price_cents, label)


def free(units: Decimal) -> Step:
    """A step of units that cost nothing."""
    return priced("free_units", units, Decimal(0))


def flat(kind: str, amount_cents: Decimal) -> Step:
    """A step that is an amount and not a price of units."""
    return Step(kind, Decimal(0), Decimal(0), amount_cents, amount_cents)
