"""From drafts to charges, filters and fixed charges: what is left out, what goes together, what keeps its id.

Pure functions of values. The rules and their codes are Lago's:
https://getlago.com/docs/guide/plans/charges/overview and https://getlago.com/docs/api-reference/plans/create.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain, count
from typing import Any, TypeVar
from uuid import UUID

from msgspec import UNSET, UnsetType

from nozle_server.catalog.charge_models import (
    ChargeModel,
    charge_model_name,
    parse_charge_model,
)
from nozle_server.catalog.drafts import ChargeDraft, ChargeFilterDraft, FixedChargeDraft, kept, said
from nozle_server.catalog.model import (
    ALL_VALUES,
    AddOn,
    Aggregation,
    Charge,
    ChargeFilter,
    FixedCharge,
    Metric,
)
from nozle_server.core.errors import InvalidInput, NotFound, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id, parse_text

MAX_AMOUNT_CENTS = 10**15
MAX_GROUP_KEYS = 20
FIXED_CHARGE_MODELS = ("standard", "graduated", "volume")

# What can be priced when an event comes, because later events do not change what it counts for.
_PAYABLE_IN_ADVANCE = (Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE_COUNT)
_PRORATED_IN_ARREARS = ("standard", "volume", "graduated")
_OPEN_RANGE = {"from_value": 0, "to_value": None, "flat_amount": "0"}
# What a charge costs that says nothing of its price, as Lago: its filters may price it.
_DEFAULT_PROPERTIES: Mapping[str, Mapping[str, Any]] = {
    "standard": {"amount": "0"},
    "graduated": {"graduated_ranges": [{**_OPEN_RANGE, "per_unit_amount": "0"}]},
    "volume": {"volume_ranges": [{**_OPEN_RANGE, "per_unit_amount": "0"}]},
    "graduated_percentage": {"graduated_percentage_ranges": [{**_OPEN_RANGE, "rate": "0"}]},
    "package": {"amount": "0", "package_size": 1, "free_units": 0},
    "percentage": {"rate": "0"},
}


@dataclass(frozen=True, slots=True)
class _Price:
    """What `charge_model` and `properties` say together."""

    model: ChargeModel
    group_keys: tuple[str, ...]


def build_charges(
    drafts: Sequence[ChargeDraft],
    previous: Sequence[Charge],
    metrics: Mapping[object, Metric],
    now: datetime,
) -> tuple[Charge, ...]:
    """The charges that a list of drafts describes, in its order.

    A draft with the id of a previous charge changes that one. Any other is a new charge, which takes the id of a previous
    one that nobody else claims when it prices the same metric by the same model. `metrics` by code and by id.
    """
    by_id = {one.id: one for one in previous}
    named = [by_id.get(draft.id) if draft.id else None for draft in drafts]
    built = [
        base
        if base is not None and draft.says_nothing
        else _charge(draft, base, _metric_of(draft, base, metrics), now)
        for draft, base in zip(drafts, named, strict=True)
    ]
    unclaimed = [one for one in previous if one not in named]
    for place, (charge, base) in enumerate(zip(built, named, strict=True)):
        if base is None and (twin := next((old for old in unclaimed if _is_twin(old, charge)), None)):
            unclaimed.remove(twin)
            built[place] = replace(
                charge,
                id=twin.id,
                created_at=twin.created_at,
                code=charge.code or twin.code,
                filters=_with_ids(charge.filters, twin.filters),
            )
    return _with_codes(built, lambda one: one.metric_code)


def build_fixed_charges(
    drafts: Sequence[FixedChargeDraft],
    previous: Sequence[FixedCharge],
    add_ons: Mapping[object, AddOn],
    now: datetime,
) -> tuple[FixedCharge, ...]:
    """As `build_charges`, of add-ons, by code and by id."""
    by_id = {one.id: one for one in previous}
    named = [by_id.get(draft.id) if draft.id else None for draft in drafts]
    built = [
        base if base is not None and draft.says_nothing else _fixed_charge(draft, base, add_ons, now)
        for draft, base in zip(drafts, named, strict=True)
    ]
    unclaimed = [one for one in previous if one not in named]
    for place, (charge, base) in enumerate(zip(built, named, strict=True)):
        if base is None and (twin := next((old for old in unclaimed if _is_twin(old, charge)), None)):
            unclaimed.remove(twin)
            built[place] = replace(
                charge, id=twin.id, created_at=twin.created_at, code=charge.code or twin.code
            )
    return _with_codes(built, lambda one: one.add_on_code)


def check_tax_codes(codes: Iterable[str]) -> tuple[str, ...]:
    """The codes once each, in their order. Whether such taxes exist is asked where taxes are known."""
    return tuple(dict.fromkeys(parse_id(code, "tax_codes") for code in codes))


def check_cents(value: int, field: str, *, minimum: int = 0) -> int:
    """Minor units of money in a draft."""
    if not minimum <= value <= MAX_AMOUNT_CENTS:
        raise InvalidInput(f"{field} must be {minimum} or more", details={field: ["value_is_out_of_range"]})
    return value


def _charge(draft: ChargeDraft, base: Charge | None, metric: Metric, now: datetime) -> Charge:
    draft.refuse_unsupported()
    if base is not None and base.metric_id != metric.id:
        base = None  # a price of another metric is another charge
    model_name = kept(draft.charge_model, charge_model_name(base.model) if base else "", "")
    price = _price(draft, base, model_name)
    charge = Charge(
        id=base.id if base else new_id(),
        code=_code(draft.code, base.code if base else None),
        metric_id=metric.id,
        metric_code=metric.code,
        model=price.model,
        pricing_group_keys=price.group_keys,
        filters=_filters(draft, base, model_name, metric),
        invoice_display_name=parse_text(
            kept(draft.invoice_display_name, base.invoice_display_name if base else None, None),
            "invoice_display_name",
        ),
        pay_in_advance=kept(draft.pay_in_advance, base.pay_in_advance if base else False, False),
        invoiceable=kept(draft.invoiceable, base.invoiceable if base else True, True),
        regroup_paid_fees=kept(draft.regroup_paid_fees, base.regroup_paid_fees if base else None, None),
        prorated=kept(draft.prorated, base.prorated if base else False, False),
        min_amount_cents=check_cents(
            kept(draft.min_amount_cents, base.min_amount_cents if base else 0, 0), "min_amount_cents"
        ),
        tax_codes=check_tax_codes(said(draft.tax_codes, list(base.tax_codes) if base else [])),
        created_at=base.created_at if base else now,
    )
    _check_charge(charge, metric)
    return charge


def _check_charge(charge: Charge, metric: Metric) -> None:
    """What goes together; InvalidInput names all that does not."""
    model = charge_model_name(charge.model)
    wrong: dict[str, list[str]] = {}
    if model == "dynamic" and metric.aggregation is not Aggregation.SUM:
        wrong["charge_model"] = ["invalid_aggregation_type_or_charge_model"]
    if charge.pay_in_advance:
        if model == "volume" or metric.aggregation not in _PAYABLE_IN_ADVANCE:
            wrong["pay_in_advance"] = ["invalid_aggregation_type_or_charge_model"]
        if charge.min_amount_cents:
            wrong["min_amount_cents"] = ["not_compatible_with_pay_in_advance"]
    elif not charge.invoiceable:
        wrong["invoiceable"] = ["must_be_true_unless_pay_in_advance"]
    if charge.regroup_paid_fees is not None:
        if charge.regroup_paid_fees != "invoice":
            wrong["regroup_paid_fees"] = ["value_is_invalid"]
        elif charge.invoiceable or not charge.pay_in_advance:
            wrong["regroup_paid_fees"] = ["only_compatible_with_pay_in_advance_and_non_invoiceable"]
    if charge.prorated:
        models = ("standard",) if charge.pay_in_advance else _PRORATED_IN_ARREARS
        if not metric.recurring or metric.aggregation is Aggregation.WEIGHTED_SUM or model not in models:
            wrong["prorated"] = ["invalid_billable_metric_or_charge_model"]
    if wrong:
        raise InvalidInput(f"a charge on {metric.code} contradicts itself", details=wrong)


def _metric_of(draft: ChargeDraft, base: Charge | None, metrics: Mapping[object, Metric]) -> Metric:
    metric = metrics.get(draft.metric_code or draft.billable_metric_id or (base.metric_id if base else None))
    if metric is None:
        raise NotFound("billable metric not found", code="billable_metric_not_found")
    return metric


def _price(
    draft: ChargeDraft | FixedChargeDraft, base: Charge | FixedCharge | None, model_name: str
) -> _Price:
    if not model_name:
        raise InvalidInput("charge_model is required", details={"charge_model": ["value_is_mandatory"]})
    before = base if base and charge_model_name(base.model) == model_name else None
    if before and draft.properties is UNSET:
        return _Price(before.model, before.pricing_group_keys if isinstance(before, Charge) else ())
    return _read_price(model_name, said(draft.properties, {}) or _DEFAULT_PROPERTIES.get(model_name, {}))


def _read_price(model_name: str, properties: Mapping[str, Any]) -> _Price:
    if properties.get("presentation_group_keys"):
        raise RuleBroken(
            "presentation_group_keys are not supported",
            code="not_supported",
            details={"properties": ["not_supported"]},
        )
    keys = properties.get("pricing_group_keys") or properties.get("grouped_by") or []
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys):
        raise InvalidInput(
            "pricing_group_keys is a list of names of properties", details={"properties": ["invalid_type"]}
        )
    if len(keys) > MAX_GROUP_KEYS:
        raise InvalidInput(
            f"a charge is grouped by at most {MAX_GROUP_KEYS} properties",
            details={"properties": ["too_many"]},
        )
    return _Price(
        parse_charge_model(model_name, properties),
        tuple(dict.fromkeys(parse_id(key, "properties") for key in keys)),
    )


def _filters(
    draft: ChargeDraft, base: Charge | None, model_name: str, metric: Metric
) -> tuple[ChargeFilter, ...]:
    previous = base.filters if base else ()
    if draft.filters is UNSET or draft.filters is None:
        if base and previous and charge_model_name(base.model) != model_name:
            # Their prices are of the other model, and there is no saying what they would be in this one.
            raise InvalidInput(
                "another charge model needs its filters", details={"filters": ["value_is_mandatory"]}
            )
        return previous
    by_id = {one.id: one for one in previous}
    filters = tuple(
        _filter(one, by_id.get(one.id) if one.id else None, model_name, metric) for one in draft.filters
    )
    if len({str(one.values) for one in filters}) != len(filters):
        raise InvalidInput(
            "two charge filters name the same values", details={"filters": ["value_is_duplicated"]}
        )
    return _with_ids(filters, previous)


def _filter(
    draft: ChargeFilterDraft, base: ChargeFilter | None, model_name: str, metric: Metric
) -> ChargeFilter:
    known = {one.key: one.values for one in metric.filters}
    values = kept(draft.values, {key: list(some) for key, some in base.values.items()} if base else {}, {})
    if not values:
        raise InvalidInput("a charge filter names a property", details={"values": ["value_is_mandatory"]})
    for key, some in values.items():
        if key not in known or not some or not set(some) <= {*known[key], ALL_VALUES}:
            raise InvalidInput(
                "a charge filter uses the keys and values of its metric's filters",
                details={"values": ["value_is_invalid"]},
            )
    if base and draft.properties is UNSET and charge_model_name(base.model) == model_name:
        price = _Price(base.model, base.pricing_group_keys)
    else:
        price = _read_price(model_name, said(draft.properties, {}))
    return ChargeFilter(
        id=base.id if base else new_id(),
        values={key: tuple(some) for key, some in sorted(values.items())},
        model=price.model,
        pricing_group_keys=price.group_keys,
        invoice_display_name=parse_text(
            kept(draft.invoice_display_name, base.invoice_display_name if base else None, None),
            "invoice_display_name",
        ),
    )


def _with_ids(filters: Sequence[ChargeFilter], previous: Sequence[ChargeFilter]) -> tuple[ChargeFilter, ...]:
    """The filters, each with the id of the previous one for the same values."""
    ids = {str(one.values): one.id for one in previous}
    return tuple(replace(one, id=ids.get(str(one.values), one.id)) for one in filters)


def _add_on_of(
    draft: FixedChargeDraft, base: FixedCharge | None, add_ons: Mapping[object, AddOn]
) -> tuple[UUID, str]:
    if base is not None and not (draft.add_on_code or draft.add_on_id):
        return base.add_on_id, base.add_on_code  # even if it is not sold any more by itself
    add_on = add_ons.get(draft.add_on_code or draft.add_on_id)
    if add_on is None:
        raise NotFound("add-on not found", code="add_on_not_found")
    return add_on.id, add_on.code


def _fixed_charge(
    draft: FixedChargeDraft, base: FixedCharge | None, add_ons: Mapping[object, AddOn], now: datetime
) -> FixedCharge:
    draft.refuse_unsupported()
    add_on_id, add_on_code = _add_on_of(draft, base, add_ons)
    if base is not None and base.add_on_id != add_on_id:
        base = None
    model_name = kept(draft.charge_model, charge_model_name(base.model) if base else "", "")
    if model_name and model_name not in FIXED_CHARGE_MODELS:
        raise InvalidInput(
            "charge_model must be one of " + ", ".join(FIXED_CHARGE_MODELS),
            details={"charge_model": ["value_is_invalid"]},
        )
    charge = FixedCharge(
        id=base.id if base else new_id(),
        code=_code(draft.code, base.code if base else None),
        add_on_id=add_on_id,
        add_on_code=add_on_code,
        model=_price(draft, base, model_name).model,
        units=parse_amount(
            Decimal(kept(draft.units, base.units if base else Decimal(0), Decimal(0))),
            "units",
            minimum=Decimal(0),
        ),
        invoice_display_name=parse_text(
            kept(draft.invoice_display_name, base.invoice_display_name if base else None, None),
            "invoice_display_name",
        ),
        pay_in_advance=kept(draft.pay_in_advance, base.pay_in_advance if base else False, False),
        prorated=kept(draft.prorated, base.prorated if base else False, False),
        tax_codes=check_tax_codes(said(draft.tax_codes, list(base.tax_codes) if base else [])),
        created_at=base.created_at if base else now,
    )
    wrong = {}
    if charge.pay_in_advance and model_name == "volume":
        wrong["pay_in_advance"] = ["invalid_charge_model"]
    if charge.prorated and charge.pay_in_advance and model_name == "graduated":
        wrong["prorated"] = ["invalid_charge_model"]
    if wrong:
        raise InvalidInput(f"a fixed charge of {add_on_code} contradicts itself", details=wrong)
    return charge


Priced = TypeVar("Priced", Charge, FixedCharge)


def _is_twin(one: Charge | FixedCharge, other: Charge | FixedCharge) -> bool:
    return _sold(one) == _sold(other) and charge_model_name(one.model) == charge_model_name(other.model)


def _sold(one: Charge | FixedCharge) -> UUID:
    return one.metric_id if isinstance(one, Charge) else one.add_on_id


def _code(given: str | UnsetType | None, before: str | None) -> str | None:
    code = kept(given, before, None)
    return None if code is None else parse_id(code, "code")


def _with_codes(charges: Sequence[Priced], of: Callable[[Priced], str]) -> tuple[Priced, ...]:
    """The charges, each with a code: its own, else what it sells, with a number where that is taken."""
    given = [one.code for one in charges if one.code is not None]
    taken = set(given)
    if len(taken) != len(given):
        raise InvalidInput("two charges have one code", details={"code": ["value_already_exist"]})
    coded = []
    for one in charges:
        if one.code is None:
            numbered = chain([of(one)], (f"{of(one)}_{n}" for n in count(2)))
            one = replace(one, code=next(code for code in numbered if code not in taken))
            taken.add(str(one.code))
        coded.append(one)
    return tuple(coded)
