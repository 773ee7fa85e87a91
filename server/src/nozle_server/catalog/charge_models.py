"""Charge models: the formulas that price usage, as values, and how they are read from and written to JSON.

Amounts are in major units of the plan's currency ("0.12" dollars) with at most 12 fractional digits, never
negative; a rate is a percentage. Field names, shapes and error codes are Lago's:
https://getlago.com/docs/api-reference/plans/object (charges) and
https://getlago.com/docs/guide/plans/charges/charge-models/standard. How a model prices: `rating/`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import parse_amount, to_plain

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Standard:
    """Every unit costs `amount`."""

    amount: Decimal


@dataclass(frozen=True, slots=True)
class PriceRange:
    """One tier: the units after the tier before up to and including `to_value` (None: without end).

    `from_value` is 0 or the `to_value` of the tier before plus 1, as Lago writes it; usage of 10.5 units
    lies in the tier that starts at 11.
    """

    from_value: int
    to_value: int | None
    flat_amount: Decimal
    per_unit_amount: Decimal


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit costs what its tier says, plus the flat amount of every tier reached."""

    ranges: tuple[PriceRange, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """All units cost what the tier of their total says, plus that tier's flat amount."""

    ranges: tuple[PriceRange, ...]


@dataclass(frozen=True, slots=True)
class PercentageRange:
    """One tier of `GraduatedPercentage`, cut as `PriceRange` is: `rate` percent of its units, and a flat amount."""

    from_value: int
    to_value: int | None
    flat_amount: Decimal
    rate: Decimal


@dataclass(frozen=True, slots=True)
class GraduatedPercentage:
    """A percentage of the units (an amount of money) that rises or falls by tier, plus the flat amount of every tier
    reached."""

    ranges: tuple[PercentageRange, ...]


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Every event brings its own price, `precise_total_amount_cents`; a period costs their sum."""


@dataclass(frozen=True, slots=True)
class Package:
    """After `free_units`, each begun package of `package_size` units costs `amount`."""

    amount: Decimal
    package_size: int
    free_units: int = 0


@dataclass(frozen=True, slots=True)
class Percentage:
    """`rate` percent of the units (an amount of money) plus `fixed_amount` per event.

    The first `free_units_per_events` events, or the first `free_units_per_total_aggregation` units,
    whichever is used up first, cost nothing. Minimum and maximum bound the price of each event.
    """

    rate: Decimal
    fixed_amount: Decimal = _ZERO
    free_units_per_events: int | None = None
    free_units_per_total_aggregation: Decimal | None = None
    per_transaction_min_amount: Decimal | None = None
    per_transaction_max_amount: Decimal | None = None


ChargeModel = Standard | Graduated | GraduatedPercentage | Volume | Package | Percentage | Dynamic

# What the tiers of the models have in common: their bounds.
Range = PriceRange | PercentageRange


def parse_charge_model(
    name: str, properties: Mapping[str, object], *, field: str = "properties"
) -> ChargeModel:
    """Read the charge model `name` from Lago's `properties`; keys of other models are ignored, as Lago does.

    InvalidInput with all that is wrong at once, in Lago's codes: `{field: ["invalid_amount", ...]}`, or
    `{"charge_model": ["value_is_invalid"]}` for a name we do not know.
    """
    try:
        parse = _PARSERS[name]
    except KeyError:
        raise InvalidInput(
            "The charge model is not known.", details={"charge_model": ["value_is_invalid"]}
        ) from None
    reader = _Reader(properties)
    model = parse(reader)
    if reader.codes:
        raise InvalidInput(
            f"The {field} do not fit the {name} charge model.", details={field: list(reader.codes)}
        )
    return model


def charge_model_name(model: ChargeModel) -> str:
    """Lago's word for a model: "standard", "graduated", "graduated_percentage", "volume", "package", "percentage" or
    "dynamic"."""
    return _NAMES[type(model)]


def to_properties(model: ChargeModel) -> dict[str, object]:
    """Lago's `properties`, the inverse of `parse_charge_model`: amounts are strings, counts integers."""
    match model:
        case Standard(amount):
            return {"amount": to_plain(amount)}
        case Graduated(ranges):
            return {"graduated_ranges": [_range_properties(one) for one in ranges]}
        case GraduatedPercentage(ranges):
            return {"graduated_percentage_ranges": [_percentage_range_properties(one) for one in ranges]}
        case Volume(ranges):
            return {"volume_ranges": [_range_properties(one) for one in ranges]}
        case Package(amount, package_size, free_units):
            return {"amount": to_plain(amount), "package_size": package_size, "free_units": free_units}
        case Percentage():
            return {
                "rate": to_plain(model.rate),
                "fixed_amount": to_plain(model.fixed_amount),
                "free_units_per_events": model.free_units_per_events,
                "free_units_per_total_aggregation": _plain_or_none(model.free_units_per_total_aggregation),
                "per_transaction_min_amount": _plain_or_none(model.per_transaction_min_amount),
                "per_transaction_max_amount": _plain_or_none(model.per_transaction_max_amount),
            }
        case Dynamic():
            return {}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads properties and collects the codes of what is wrong; what could not be read is given as 0."""

    properties: Mapping[str, object]
    # A dict for its order and uniqueness: one code is told once, however many tiers have it.
    codes: dict[str, None] = field(default_factory=dict)

    def amount(self, key: str, code: str) -> Decimal:
        return self._amount_of(self.properties.get(key), code)

    def optional_amount(self, key: str, code: str) -> Decimal | None:
        return self._optional_amount_of(self.properties.get(key), code)

    def count(self, key: str, code: str, *, minimum: int) -> int:
        count = _integer(self.properties.get(key))
        if count is None or count < minimum:
            self.refuse(code)
            return 0
        return count

    def optional_count(self, key: str, code: str, *, minimum: int) -> int | None:
        return None if self.properties.get(key) is None else self.count(key, code, minimum=minimum)

    def ranges(self, key: str) -> tuple[PriceRange, ...]:
        ranges = tuple(
            PriceRange(
                *self._bounds(entry, key),
                flat_amount=self._flat_amount(entry),
                per_unit_amount=self._amount_of(entry.get("per_unit_amount"), "invalid_amount"),
            )
            for entry in self._entries(key)
        )
        self._require_contiguous(ranges, key)
        return ranges

    def percentage_ranges(self, key: str) -> tuple[PercentageRange, ...]:
        ranges = tuple(
            PercentageRange(
                *self._bounds(entry, key),
                flat_amount=self._flat_amount(entry),
                rate=self._amount_of(entry.get("rate"), "invalid_rate"),
            )
            for entry in self._entries(key)
        )
        self._require_contiguous(ranges, key)
        return ranges

    def refuse(self, code: str) -> None:
        self.codes[code] = None

    def _entries(self, key: str) -> list[Mapping[str, object]]:
        entries = self.properties.get(key)
        if entries is None or entries == []:
            self.refuse(f"missing_{key}")
            return []
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            self.refuse(f"invalid_{key}")
            return []
        return entries

    def _bounds(self, entry: Mapping[str, object], key: str) -> tuple[int, int | None]:
        from_value, to_value = _integer(entry.get("from_value")), entry.get("to_value")
        if from_value is None or (to_value is not None and _integer(to_value) is None):
            self.refuse(f"invalid_{key}")
        return from_value or 0, _integer(to_value)

    def _flat_amount(self, entry: Mapping[str, object]) -> Decimal:
        return self._optional_amount_of(entry.get("flat_amount"), "invalid_amount") or _ZERO

    def _require_contiguous(self, ranges: Sequence[Range], key: str) -> None:
        if ranges and not _are_contiguous(ranges):
            self.refuse(f"invalid_{key}")

    def _optional_amount_of(self, value: object, code: str) -> Decimal | None:
        return None if value is None else self._amount_of(value, code)

    def _amount_of(self, value: object, code: str) -> Decimal:
        try:
            return parse_amount(value, code, minimum=_ZERO)
        except InvalidInput:
            self.refuse(code)
            return _ZERO


def _standard(read: _Reader) -> Standard:
    return Standard(read.amount("amount", "invalid_amount"))


def _graduated(read: _Reader) -> Graduated:
    return Graduated(read.ranges("graduated_ranges"))


def _graduated_percentage(read: _Reader) -> GraduatedPercentage:
    return GraduatedPercentage(read.percentage_ranges("graduated_percentage_ranges"))


def _dynamic(_: _Reader) -> Dynamic:
    return Dynamic()


def _volume(read: _Reader) -> Volume:
    return Volume(read.ranges("volume_ranges"))


def _package(read: _Reader) -> Package:
    return Package(
        amount=read.amount("amount", "invalid_amount"),
        package_size=read.count("package_size", "invalid_package_size", minimum=1),
        free_units=read.optional_count("free_units", "invalid_free_units", minimum=0) or 0,
    )


def _percentage(read: _Reader) -> Percentage:
    model = Percentage(
        rate=read.amount("rate", "invalid_rate"),
        fixed_amount=read.optional_amount("fixed_amount", "invalid_fixed_amount") or _ZERO,
        free_units_per_events=read.optional_count(
            "free_units_per_events", "invalid_free_units_per_events", minimum=1
        ),
        free_units_per_total_aggregation=read.optional_amount(
            "free_units_per_total_aggregation", "invalid_free_units_per_total_aggregation"
        ),
        per_transaction_min_amount=read.optional_amount("per_transaction_min_amount", "invalid_amount"),
        per_transaction_max_amount=read.optional_amount("per_transaction_max_amount", "invalid_amount"),
    )
    low, high = model.per_transaction_min_amount, model.per_transaction_max_amount
    if low is not None and high is not None and low > high:
        read.refuse("per_transaction_max_lower_than_per_transaction_min")
    return model


_PARSERS: dict[str, Callable[[_Reader], ChargeModel]] = {
    "standard": _standard,
    "graduated": _graduated,
    "volume": _volume,
    "package": _package,
    "percentage": _percentage,
    "graduated_percentage": _graduated_percentage,
    "dynamic": _dynamic,
}

_NAMES: dict[type, str] = {
    Standard: "standard",
    Graduated: "graduated",
    GraduatedPercentage: "graduated_percentage",
    Volume: "volume",
    Package: "package",
    Percentage: "percentage",
    Dynamic: "dynamic",
}


def _are_contiguous(ranges: Sequence[Range]) -> bool:
    """From 0, each tier one after the end of the one before and longer than a point, the last without end."""
    expected = 0
    for one in ranges[:-1]:
        if one.from_value != expected or one.to_value is None or one.to_value <= one.from_value:
            return False
        expected = one.to_value + 1
    return ranges[-1].from_value == expected and ranges[-1].to_value is None


def _integer(value: object) -> int | None:
    """A whole number of at most 18 digits, also when JSON wrote it as 10.0; None for anything else."""
    if isinstance(value, str):
        return None
    try:
        number = parse_amount(value, "value")
    except InvalidInput:
        return None
    return int(number) if number == int(number) else None


def _range_properties(one: PriceRange) -> dict[str, object]:
    return {
        "from_value": one.from_value,
        "to_value": one.to_value,
        "flat_amount": to_plain(one.flat_amount),
        "per_unit_amount": to_plain(one.per_unit_amount),
    }


def _percentage_range_properties(one: PercentageRange) -> dict[str, object]:
    return {
        "from_value": one.from_value,
        "to_value": one.to_value,
        "flat_amount": to_plain(one.flat_amount),
        "rate": to_plain(one.rate),
    }


def _plain_or_none(amount: Decimal | None) -> str | None:
    return None if amount is None else to_plain(amount)
