"""What a charge may say together, and which charges keep their ids when a list of them is written again."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from nozle_server.catalog.charge_terms import build_charges, build_fixed_charges
from nozle_server.catalog.drafts import ChargeDraft, ChargeFilterDraft, FixedChargeDraft
from nozle_server.catalog.model import AddOn, Aggregation, Charge, Metric, MetricFilter
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.fields import Amount

AGGREGATION_OR_MODEL = "invalid_aggregation_type_or_charge_model"
NOT_IN_ADVANCE = "not_compatible_with_pay_in_advance"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 2, 1, tzinfo=UTC)
ORG = UUID(int=1)
RANGES = [{"from_value": 0, "to_value": None, "flat_amount": "0", "per_unit_amount": "1"}]
PROPERTIES: dict[str, dict[str, Any]] = {
    "standard": {"amount": "1"},
    "graduated": {"graduated_ranges": RANGES},
    "volume": {"volume_ranges": RANGES},
    "package": {"amount": "1", "package_size": 10},
    "percentage": {"rate": "1"},
}


def a_metric(how: str = "sum_agg", *, code: str = "tokens", recurring: bool = False) -> Metric:
    return Metric(
        org_id=ORG,
        id=UUID(int=sum(code.encode())),
        code=code,
        name=code,
        description=None,
        aggregation=Aggregation(how),
        field_name="n",
        expression=None,
        filters=(MetricFilter("model", ("large", "small")),),
        created_at=NOW,
        updated_at=NOW,
        recurring=recurring,
    )


def a_draft(model: str = "standard", **more: Any) -> ChargeDraft:
    return ChargeDraft(
        **{"billable_metric_code": "tokens", "charge_model": model, "properties": PROPERTIES[model], **more}
    )


def build(
    *drafts: ChargeDraft, previous: tuple[Charge, ...] = (), metric: Metric | None = None
) -> tuple[Charge, ...]:
    metrics = [metric or a_metric(), a_metric(code="calls")]
    known: dict[object, Metric] = {one.code: one for one in metrics}
    known |= {one.id: one for one in metrics}
    return build_charges(drafts, previous, known, NOW if not previous else LATER)


# Lago's rules: what is said, of which metric, and the codes that answer it.
@pytest.mark.parametrize(
    ("said", "metric", "wrong"),
    [
        ({"pay_in_advance": True}, a_metric("max_agg"), {"pay_in_advance": AGGREGATION_OR_MODEL}),
        ({"pay_in_advance": True}, a_metric("latest_agg"), {"pay_in_advance": AGGREGATION_OR_MODEL}),
        ({"pay_in_advance": True}, a_metric("weighted_sum_agg"), {"pay_in_advance": AGGREGATION_OR_MODEL}),
        ({"model": "volume", "pay_in_advance": True}, a_metric(), {"pay_in_advance": AGGREGATION_OR_MODEL}),
        ({"pay_in_advance": True, "min_amount_cents": 1}, a_metric(), {"min_amount_cents": NOT_IN_ADVANCE}),
        ({"min_amount_cents": -1}, a_metric(), {"min_amount_cents": "value_is_out_of_range"}),
        ({"invoiceable": False}, a_metric(), {"invoiceable": "must_be_true_unless_pay_in_advance"}),
        (
            {"regroup_paid_fees": "invoice", "pay_in_advance": True},
            a_metric(),
            {"regroup_paid_fees": "only_compatible_with_pay_in_advance_and_non_invoiceable"},
        ),
        (
            {"regroup_paid_fees": "weekly", "pay_in_advance": True, "invoiceable": False},
            a_metric(),
            {"regroup_paid_fees": "value_is_invalid"},
        ),
        ({"prorated": True}, a_metric(), {"prorated": "invalid_billable_metric_or_charge_model"}),
        (
            {"model": "package", "prorated": True},
            a_metric(recurring=True),
            {"prorated": "invalid_billable_metric_or_charge_model"},
        ),
        (
            {"model": "graduated", "prorated": True, "pay_in_advance": True},
            a_metric(recurring=True),
            {"prorated": "invalid_billable_metric_or_charge_model"},
        ),
        (
            {"prorated": True},
            a_metric("weighted_sum_agg", recurring=True),
            {"prorated": "invalid_billable_metric_or_charge_model"},
        ),
        ({"properties": {"amount": "1", "pricing_group_keys": "region"}}, a_metric(), {"properties": "invalid_type"}),
        ({"properties": {"amount": "1", "pricing_group_keys": [""]}}, a_metric(), {"properties": "invalid_type"}),
        ({"charge_model": None}, a_metric(), {"charge_model": "value_is_mandatory"}),
    ],
)  # fmt: skip
def test_a_charge_that_contradicts_itself_is_refused_with_lagos_code(
    said: dict[str, Any], metric: Metric, wrong: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(a_draft(**said), metric=metric)
    assert caught.value.details == {field: [code] for field, code in wrong.items()}


@pytest.mark.parametrize(
    ("said", "metric"),
    [
        ({"pay_in_advance": True, "invoiceable": False, "regroup_paid_fees": "invoice"}, a_metric()),
        ({"pay_in_advance": True, "prorated": True}, a_metric("unique_count_agg", recurring=True)),
        ({"model": "graduated", "prorated": True}, a_metric(recurring=True)),
        ({"model": "volume", "prorated": True}, a_metric(recurring=True)),
        ({"min_amount_cents": 5}, a_metric("max_agg")),
    ],
)
def test_what_goes_together_is_kept_as_said(said: dict[str, Any], metric: Metric) -> None:
    [charge] = build(a_draft(**said), metric=metric)
    for field in said.keys() - {"model"}:
        assert getattr(charge, field) == said[field]


def test_a_charge_without_a_price_costs_nothing_as_lago_has_it() -> None:
    for model, properties in PROPERTIES.items():
        [charge] = build(a_draft(model, properties={}))
        [written] = build(a_draft(model, properties=properties))
        assert type(charge.model) is type(written.model)


def test_charges_keep_their_ids_where_they_are_the_same_thing() -> None:
    """By id, else by metric and model; what is new has an id of its own, and two of a kind are told apart by place."""
    first = build(
        a_draft(), a_draft("package"), a_draft("package", properties={"amount": "2", "package_size": 5})
    )
    assert [one.code for one in first] == ["tokens", "tokens_2", "tokens_3"]
    again = build(a_draft("package"), a_draft("percentage"), a_draft(), previous=first)
    assert [one.id in {old.id for old in first} for one in again] == [True, False, True]
    assert (again[0].id, again[2].id) == (first[1].id, first[0].id)
    assert [one.created_at for one in again] == [NOW, LATER, NOW]
    assert [one.code for one in again] == ["tokens_2", "tokens_3", "tokens"]
    changed = build(ChargeDraft(id=first[2].id, invoice_display_name="Third"), previous=first)
    assert [(one.id, one.model) for one in changed] == [(first[2].id, first[2].model)]
    assert changed[0].invoice_display_name == "Third"
    other = build(a_draft(id=first[0].id, billable_metric_code="calls"), a_draft(), previous=first)
    assert other[0].id not in {old.id for old in first}


def test_a_change_of_a_charge_leaves_what_it_does_not_say() -> None:
    cheap = ChargeFilterDraft(values={"model": ["small"]}, properties={"amount": "0.1"})
    before = build(
        a_draft(
            filters=[cheap],
            tax_codes=["vat"],
            min_amount_cents=7,
            properties={"amount": "1", "grouped_by": ["region"]},
        )
    )
    assert before[0].pricing_group_keys == ("region",)
    [after] = build(ChargeDraft(id=before[0].id, min_amount_cents=8), previous=before)
    assert (after.filters, after.tax_codes, after.min_amount_cents) == (before[0].filters, ("vat",), 8)
    assert after.pricing_group_keys == ("region",)
    [priced] = build(ChargeDraft(id=before[0].id, properties={"amount": "3"}, filters=[]), previous=before)
    assert (priced.filters, priced.pricing_group_keys) == ((), ())
    repriced = ChargeFilterDraft(values={"model": ["small"]}, properties={"amount": "0.2"})
    [refiltered] = build(ChargeDraft(id=before[0].id, filters=[repriced]), previous=before)
    assert refiltered.filters[0].id == before[0].filters[0].id
    with pytest.raises(InvalidInput) as caught:
        build(
            ChargeDraft(id=before[0].id, charge_model="percentage", properties={"rate": "1"}), previous=before
        )
    assert caught.value.details == {"filters": ["value_is_mandatory"]}


@pytest.mark.parametrize(
    ("filters", "code"),
    [
        ([{"values": {}, "properties": {"amount": "1"}}], "value_is_mandatory"),
        ([{"properties": {"amount": "1"}}], "value_is_mandatory"),
        ([{"values": {"model": ["huge"]}, "properties": {"amount": "1"}}], "value_is_invalid"),
        ([{"values": {"region": ["eu"]}, "properties": {"amount": "1"}}], "value_is_invalid"),
        ([{"values": {"model": []}, "properties": {"amount": "1"}}], "value_is_invalid"),
        ([{"values": {"model": ["small"]}, "properties": {"amount": "1"}}] * 2, "value_is_duplicated"),
        ([{"values": {"model": ["small"]}, "properties": {}}], "invalid_amount"),
    ],
)
def test_filters_use_what_their_metric_knows(filters: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(a_draft(filters=[ChargeFilterDraft(**one) for one in filters]))
    assert list(caught.value.details.values()) == [[code]]


SEAT = AddOn(ORG, UUID(int=7), "seat", "Seat", None, None, 1000, "USD", (), NOW, NOW)


def a_fixed(model: str = "standard", **more: Any) -> FixedChargeDraft:
    return FixedChargeDraft(
        **{"add_on_code": "seat", "charge_model": model, "properties": PROPERTIES[model], **more}
    )


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"model": "volume", "pay_in_advance": True}, {"pay_in_advance": ["invalid_charge_model"]}),
        ({"model": "graduated", "pay_in_advance": True, "prorated": True}, {"prorated": ["invalid_charge_model"]}),
        ({"model": "package"}, {"charge_model": ["value_is_invalid"]}),
        ({"units": Amount(-1)}, {"units": ["value_is_out_of_range"]}),
    ],
)  # fmt: skip
def test_a_fixed_charge_that_contradicts_itself_is_refused(said: dict[str, Any], wrong: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        build_fixed_charges([a_fixed(**said)], (), {"seat": SEAT}, NOW)
    assert caught.value.details == wrong


def test_fixed_charges_outlive_the_sale_of_their_add_on() -> None:
    """One that is there can still be changed when the add-on itself was removed; a new one of it cannot be made."""
    before = build_fixed_charges([a_fixed(units=Amount("2.5"))], (), {"seat": SEAT}, NOW)
    [after] = build_fixed_charges([FixedChargeDraft(id=before[0].id, units=Amount(3))], before, {}, LATER)
    assert (after.id, after.units, after.model) == (before[0].id, 3, before[0].model)
    with pytest.raises(NotFound):
        build_fixed_charges([a_fixed()], before, {}, LATER)
