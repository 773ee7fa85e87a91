"""Plans in full through Core's endpoints: every field, partial changes, charges one at a time, versions, metadata."""

import asyncio
from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PLANS = "/core/api/v1/plans"
CHARGE = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}
PLAN: dict[str, Any] = {"code": "pro", "name": "Pro", "interval": "monthly", "amount_cents": 4900}
FILTERS = [{"key": "model", "values": ["small", "large"]}]


async def a_catalog(world: World) -> None:
    """A metric with filters, two taxes and an add-on."""
    await world.turn("2026-01-01")
    await world.a_metric(filters=FILTERS)
    for code in ("vat", "levy"):
        await world.post("/core/api/v1/taxes", {"tax": {"code": code, "name": code, "rate": "10"}})
    add_on = {"code": "seat", "name": "Seat", "amount_cents": 1000, "amount_currency": "USD"}
    await world.post("/core/api/v1/add_ons", {"add_on": add_on})


async def a_plan(world: World, **more: object) -> dict[str, Any]:
    made = (await world.post(PLANS, {"plan": {**PLAN, **more}}))["plan"]
    assert isinstance(made, dict)
    return made


async def put(world: World, path: str, body: object, status: int = 200) -> dict[str, Any]:
    answer = await world.call("PUT", PLANS + path, body)
    assert answer.status == status, answer.body
    changed = answer.json
    assert isinstance(changed, dict)
    return changed


async def test_a_plan_says_everything_back(world: World) -> None:
    """Every field of Lago's plan object, of its parts too; both ids; taxes as objects."""
    await a_catalog(world)
    made = await a_plan(
        world,
        interval="yearly",
        invoice_display_name="Professional",
        description="For teams",
        amount_currency="EUR",
        trial_period=14.5,
        pay_in_advance=True,
        bill_charges_monthly=True,
        bill_fixed_charges_monthly=True,
        tax_codes=["vat"],
        minimum_commitment={
            "amount_cents": 100000,
            "invoice_display_name": "At least",
            "tax_codes": ["levy"],
        },
        charges=[
            {
                **CHARGE,
                "code": "text",
                "invoice_display_name": "Text",
                "pay_in_advance": True,
                "invoiceable": False,
                "regroup_paid_fees": "invoice",
                "tax_codes": ["vat", "levy"],
                "properties": {"amount": "0.000000000001", "pricing_group_keys": ["region"]},
                "filters": [
                    {
                        "values": {"model": ["large"]},
                        "properties": {"amount": "0.02"},
                        "invoice_display_name": "Large",
                    }
                ],
            },
            {**CHARGE, "min_amount_cents": 500},
        ],
        fixed_charges=[
            {
                "add_on_code": "seat",
                "charge_model": "standard",
                "units": "2.5",
                "pay_in_advance": True,
                "prorated": True,
                "properties": {"amount": "10"},
                "tax_codes": ["levy"],
            }
        ],
        usage_thresholds=[
            {"amount_cents": 2000, "recurring": True},
            {"amount_cents": 1000, "threshold_display_name": "First"},
        ],
        metadata={"team": "growth", "tier": None},
    )
    ids = {"lago_id": made["lago_id"], "nozle_id": made["lago_id"]}
    [text, rest] = made.pop("charges")
    [seat] = made.pop("fixed_charges")
    [vat] = made.pop("taxes")
    commitment = made.pop("minimum_commitment")
    [first, again] = made.pop("usage_thresholds")
    at = "2026-01-01T00:00:00Z"
    assert made == {
        **ids,
        "code": "pro",
        "name": "Pro",
        "invoice_display_name": "Professional",
        "description": "For teams",
        "version": 1,
        "is_current": True,
        "interval": "yearly",
        "amount_cents": 4900,
        "amount_currency": "EUR",
        "pay_in_advance": True,
        "trial_period": made["trial_period"],
        "bill_charges_monthly": True,
        "bill_fixed_charges_monthly": True,
        "credits": 0,
        "credits_rollover": None,
        "credit_grants": [],
        "customers_count": 0,
        "active_subscriptions_count": 0,
        "draft_invoices_count": 0,
        "parent_id": None,
        "pending_deletion": False,
        "applicable_usage_thresholds": [
            {"threshold_display_name": "First", "amount_cents": 1000, "recurring": False},
            {"threshold_display_name": None, "amount_cents": 2000, "recurring": True},
        ],
        "entitlements": [],
        "metadata": {"team": "growth", "tier": None},
        "created_at": at,
        "updated_at": at,
    }
    assert str(made["trial_period"]) == "14.5"
    assert vat["code"] == "vat"
    assert (first["amount_cents"], first["threshold_display_name"], again["recurring"]) == (
        1000,
        "First",
        True,
    )
    assert commitment == {
        "lago_id": commitment["lago_id"],
        "nozle_id": commitment["lago_id"],
        "plan_code": "pro",
        "invoice_display_name": "At least",
        "amount_cents": 100000,
        "interval": "yearly",
        "created_at": at,
        "updated_at": at,
        "taxes": commitment["taxes"],
    }
    assert [one["code"] for one in commitment["taxes"]] == ["levy"]
    assert text == {
        "lago_id": text["lago_id"],
        "nozle_id": text["lago_id"],
        "lago_billable_metric_id": text["lago_billable_metric_id"],
        "billable_metric_code": "tokens",
        "code": "text",
        "charge_model": "standard",
        "invoice_display_name": "Text",
        "pay_in_advance": True,
        "invoiceable": False,
        "regroup_paid_fees": "invoice",
        "prorated": False,
        "min_amount_cents": 0,
        "accepts_target_wallet": False,
        "properties": {
            "amount": "0.000000000001",
            "pricing_group_keys": ["region"],
            "grouped_by": ["region"],
        },
        "applied_pricing_unit": None,
        "lago_parent_id": None,
        "filters": [
            {
                "lago_id": text["filters"][0]["lago_id"],
                "nozle_id": text["filters"][0]["lago_id"],
                "invoice_display_name": "Large",
                "values": {"model": ["large"]},
                "properties": {"amount": "0.02"},
            }
        ],
        "taxes": text["taxes"],
        "created_at": at,
    }
    assert [one["code"] for one in text["taxes"]] == ["vat", "levy"]
    assert (rest["code"], rest["min_amount_cents"], rest["taxes"]) == ("tokens", 500, [])
    assert (seat["code"], seat["add_on_code"], str(seat["units"])) == ("seat", "seat", "2.5")
    assert (seat["prorated"], seat["properties"]) == (True, {"amount": "10"})
    shown = (await world.get(f"{PLANS}/pro"))["plan"]
    assert (shown["charges"], shown["fixed_charges"]) == ([text, rest], [seat])
    assert (await world.get(PLANS))["plans"] == [shown]


async def test_monthly_billing_is_of_long_plans_only(world: World) -> None:
    """As Lago: asked of a monthly plan it is ignored, and shown as null."""
    made = await a_plan(world, bill_charges_monthly=True)
    assert (made["bill_charges_monthly"], made["bill_fixed_charges_monthly"]) == (None, None)
    changed = (await put(world, "/pro", {"plan": {"interval": "semiannual"}}))["plan"]
    assert (changed["bill_charges_monthly"], changed["bill_fixed_charges_monthly"]) == (False, False)


async def test_a_client_that_sends_every_field_as_null_makes_a_plain_plan(world: World) -> None:
    """Published clients send null for what was not set."""
    await a_catalog(world)
    texts = ("invoice_display_name", "description")
    flags = ("pay_in_advance", "bill_charges_monthly", "bill_fixed_charges_monthly")
    lists = ("tax_codes", "fixed_charges", "usage_thresholds", "metadata")
    nothing = (*texts, *flags, *lists, "trial_period", "minimum_commitment")
    empty = ("id", "invoice_display_name", "min_amount_cents", "tax_codes", "filters", "regroup_paid_fees")
    charge = {**CHARGE, **dict.fromkeys((*empty, "prorated", "invoiceable"))}
    made = await a_plan(world, charges=[charge], **dict.fromkeys(nothing))
    assert (made["pay_in_advance"], made["charges"][0]["invoiceable"]) == (False, True)
    assert (made["minimum_commitment"], made["usage_thresholds"], made["taxes"]) == (None, [], [])
    assert (await a_plan(world, code="bare", charges=None))["charges"] == []


@pytest.mark.parametrize(
    ("said", "details"),
    [
        ({"trial_period": -1}, {"trial_period": ["value_is_out_of_range"]}),
        ({"trial_period": 100000}, {"trial_period": ["value_is_out_of_range"]}),
        ({"minimum_commitment": {"amount_cents": 0}}, {"amount_cents": ["value_is_out_of_range"]}),
        ({"minimum_commitment": {"invoice_display_name": "x"}}, {"amount_cents": ["value_is_out_of_range"]}),
        ({"usage_thresholds": [{"amount_cents": 0}]}, {"usage_thresholds": ["value_is_out_of_range"]}),
        ({"usage_thresholds": [{"amount_cents": 5}] * 2}, {"usage_thresholds": ["value_already_exist"]}),
        (
            {"usage_thresholds": [{"amount_cents": n, "recurring": True} for n in (5, 6)]},
            {"usage_thresholds": ["value_already_exist"]},
        ),
        ({"usage_thresholds": [{"amount_cents": n} for n in range(1, 60)]}, {"usage_thresholds": ["too_many"]}),
        ({"charges": [{**CHARGE, "code": "a"}] * 2}, {"code": ["value_already_exist"]}),
        ({"charges": [{**CHARGE, "applied_pricing_unit": {"code": "x"}}]}, {"applied_pricing_unit": ["not_supported"]}),
        (
            {"charges": [{**CHARGE, "properties": {"amount": "1", "presentation_group_keys": [{"value": "a"}]}}]},
            {"properties": ["not_supported"]},
        ),
        ({"metadata": {"x" * 41: "y"}}, {"metadata": ["key_too_long"]}),
        ({"metadata": {"x": "y" * 256}}, {"metadata": ["value_too_long"]}),
        ({"metadata": {"x": 1}}, {"metadata": ["invalid_type"]}),
        ({"metadata": {str(n): "y" for n in range(51)}}, {"metadata": ["too_many_keys"]}),
    ],
)  # fmt: skip
async def test_what_a_plan_cannot_be(world: World, said: dict[str, Any], details: object) -> None:
    await a_catalog(world)
    answer = await world.call("POST", PLANS, {"plan": {**PLAN, **said}})
    assert (answer.status, answer.json["error_details"]) == (422, details)
    assert (await world.get(PLANS))["plans"] == []


async def test_a_change_changes_what_it_names(world: World) -> None:
    """As Lago: what a PUT leaves out stays, null empties, a list replaces; entries are known by their id."""
    await a_catalog(world)
    made = await a_plan(
        world,
        description="For teams",
        trial_period=14,
        tax_codes=["vat"],
        minimum_commitment={"amount_cents": 9900, "invoice_display_name": "At least"},
        usage_thresholds=[{"amount_cents": 1000}],
        charges=[CHARGE, {**CHARGE, "code": "more", "min_amount_cents": 5}],
        fixed_charges=[{"add_on_code": "seat", "charge_model": "standard", "units": 1}],
        metadata={"team": "growth"},
    )
    renamed = (await put(world, "/pro", {"plan": {"name": "Professional"}}))["plan"]
    assert renamed == {**made, "name": "Professional", "updated_at": renamed["updated_at"]}
    more = made["charges"][1]
    changed = (
        await put(
            world,
            "/pro",
            {
                "plan": {
                    "code": "pro",
                    "amount_cents": 5900,
                    "description": None,
                    "minimum_commitment": {"amount_cents": 19900},
                    "charges": [{"id": more["lago_id"], "invoice_display_name": "More"}],
                    "metadata": None,
                }
            },
        )
    )["plan"]
    assert (changed["version"], changed["amount_cents"], changed["description"]) == (2, 5900, None)
    assert changed["charges"] == [{**more, "invoice_display_name": "More"}]
    commitment = changed["minimum_commitment"]
    assert commitment["lago_id"] == made["minimum_commitment"]["lago_id"]
    assert (commitment["amount_cents"], commitment["invoice_display_name"]) == (19900, "At least")
    for field in ("trial_period", "taxes", "usage_thresholds", "fixed_charges"):
        assert changed[field] == made[field]
    assert changed["metadata"] is None
    nulls = dict.fromkeys(("charges", "fixed_charges", "tax_codes", "minimum_commitment"))
    assert (await put(world, "/pro", {"plan": nulls}))["plan"] == changed
    emptied = (
        await put(
            world,
            "/pro",
            {
                "plan": {
                    "minimum_commitment": {},
                    "tax_codes": [],
                    "charges": [],
                    "fixed_charges": [],
                    "usage_thresholds": [],
                    "trial_period": 0,
                }
            },
        )
    )["plan"]
    for field in ("taxes", "charges", "fixed_charges", "usage_thresholds"):
        assert emptied[field] == []
    assert (emptied["minimum_commitment"], emptied["trial_period"]) == (None, None)
    for wrong in ({"tax_codes": ["none"]}, {"charges": [{**CHARGE, "tax_codes": ["none"]}]}):
        assert (await put(world, "/pro", {"plan": wrong}, 404))["code"] == "tax_not_found"
    assert (await put(world, "/none", {"plan": {}}, 404))["code"] == "plan_not_found"
    assert (await world.get(f"{PLANS}/pro"))["plan"] == emptied


async def test_every_version_can_be_read(world: World) -> None:
    """Contract 4.8: versions oldest first, with who is on them; one version as a plan object."""
    await a_catalog(world)
    made = await a_plan(world, charges=[CHARGE])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await put(world, "/pro", {"plan": {"amount_cents": 5900, "charges": []}})
    versions = (await world.get(f"{PLANS}/pro/versions"))["versions"]
    assert [
        (one["version"], one["is_current"], one["amount_cents"], one["active_subscriptions_count"])
        for one in versions
    ] == [(1, False, 4900, 1), (2, True, 5900, 0)]
    first = (await world.get(f"{PLANS}/pro", version=1))["plan"]
    assert (first["charges"], first["amount_cents"], first["is_current"]) == (made["charges"], 4900, False)
    assert (first["active_subscriptions_count"], first["customers_count"]) == (1, 1)
    assert (await world.get(f"{PLANS}/pro", version=2))["plan"]["is_current"] is True
    for number in (0, 3, -1, 2**40):
        answer = await world.call("GET", f"{PLANS}/pro?version={number}")
        assert (answer.status, answer.code) == (404, "plan_version_not_found")
    assert (await world.call("GET", f"{PLANS}/none/versions")).code == "plan_not_found"


async def test_charges_one_at_a_time(world: World) -> None:
    """Add, get by code or id, change, list, remove: each a new version of the plan, the others as they were."""
    await a_catalog(world)
    await a_plan(world, charges=[CHARGE])
    path = f"{PLANS}/pro/charges"
    made = (await world.post(path, {"charge": {**CHARGE, "tax_codes": ["vat"]}}))["charge"]
    assert made["code"] == "tokens_2"
    assert [one["code"] for one in made["taxes"]] == ["vat"]
    listed = await world.get(path, per_page=1)
    assert (listed["charges"], listed["meta"]["total_count"]) == ([made], 2)
    for name in ("tokens_2", made["lago_id"]):
        assert (await world.get(f"{path}/{name}"))["charge"] == made
    changed = (
        await put(world, "/pro/charges/tokens_2", {"charge": {"code": "second", "min_amount_cents": 7}})
    )["charge"]
    assert changed == {**made, "code": "second", "min_amount_cents": 7}
    removed = await world.call("DELETE", f"{path}/second", {"charge": {"cascade_updates": False}})
    assert removed.json == {"charge": changed}
    assert [one["code"] for one in (await world.get(path))["charges"]] == ["tokens"]
    assert [one["version"] for one in (await world.get(f"{PLANS}/pro/versions"))["versions"]] == [1, 2, 3, 4]
    for method, body in (("GET", None), ("PUT", {"charge": {}}), ("DELETE", None)):
        answer = await world.call(method, f"{path}/second", body)
        assert (answer.status, answer.code) == (404, "charge_not_found")
    answer = await world.call("POST", path, {"charge": {"billable_metric_code": "tokens"}})
    assert answer.json["error_details"] == {"charge_model": ["value_is_mandatory"]}
    answer = await world.call("POST", path, {"charge": {**CHARGE, "code": "tokens"}})
    assert answer.json["error_details"] == {"code": ["value_already_exist"]}
    answer = await world.call("POST", path, {"charge": {**CHARGE, "tax_codes": ["none"]}})
    assert (answer.status, answer.code) == (404, "tax_not_found")
    assert (await world.call("POST", f"{PLANS}/none/charges", {"charge": CHARGE})).code == "plan_not_found"
    assert len((await world.get(path))["charges"]) == 1


async def test_filters_one_at_a_time(world: World) -> None:
    await a_catalog(world)
    await a_plan(world, charges=[CHARGE])
    path = f"{PLANS}/pro/charges/tokens/filters"
    small = {"values": {"model": ["small"]}, "properties": {"amount": "0.1"}}
    made = (await world.post(path, {"filter": small}))["filter"]
    assert made == {
        "lago_id": made["lago_id"],
        "nozle_id": made["lago_id"],
        "invoice_display_name": None,
        **small,
    }
    other = (await world.post(path, {"filter": {**small, "values": {"model": ["large"]}}}))["filter"]
    assert (await world.get(path))["filters"] == [made, other]
    assert (await world.get(path, page=2, per_page=1))["filters"] == [other]
    one = f"{path}/{made['lago_id']}"
    changed = await put(world, one.removeprefix(PLANS), {"filter": {"properties": {"amount": "0.3"}}})
    assert changed["filter"] == {**made, "properties": {"amount": "0.3"}}
    named = await put(world, one.removeprefix(PLANS), {"filter": {"invoice_display_name": "Small"}})
    assert named["filter"] == {**changed["filter"], "invoice_display_name": "Small"}
    refused = await put(world, one.removeprefix(PLANS), {"filter": {"values": {"model": ["large"]}}}, 422)
    assert refused["error_details"] == {"values": ["value_is_fixed"]}
    assert (await world.get(one))["filter"] == named["filter"]
    assert (await world.call("DELETE", one)).json == named
    assert (await world.get(path))["filters"] == [other]
    assert (await world.call("GET", one)).code == "charge_filter_not_found"
    twice = await world.call("POST", path, {"filter": {**small, "values": {"model": ["large"]}}})
    assert twice.json["error_details"] == {"filters": ["value_is_duplicated"]}
    answer = await world.call("POST", path, {"filter": {"properties": {"amount": "1"}}})
    assert answer.json["error_details"] == {"values": ["value_is_mandatory"]}


async def test_fixed_charges_one_at_a_time(world: World) -> None:
    await a_catalog(world)
    await a_plan(world)
    path = f"{PLANS}/pro/fixed_charges"
    wanted = {"add_on_code": "seat", "charge_model": "standard", "units": 2, "properties": {"amount": "10"}}
    made = (await world.post(path, {"fixed_charge": {**wanted, "tax_codes": ["levy"]}}))["fixed_charge"]
    by_id = {**wanted, "add_on_id": made["lago_add_on_id"], "add_on_code": None}
    second = (await world.post(path, {"fixed_charge": by_id}))["fixed_charge"]
    assert (made["code"], second["code"]) == ("seat", "seat_2")
    changed = (await put(world, "/pro/fixed_charges/seat", {"fixed_charge": {"units": "2.5"}}))[
        "fixed_charge"
    ]
    assert changed == {**made, "units": changed["units"]}
    assert str(changed["units"]) == "2.5"
    assert (await world.get(f"{path}/{made['lago_id']}"))["fixed_charge"] == changed
    listed = await world.get(path)
    assert ([one["code"] for one in listed["fixed_charges"]], listed["meta"]["total_count"]) == (
        ["seat_2", "seat"],
        2,
    )
    assert (await world.call("DELETE", f"{path}/seat")).json["fixed_charge"] == changed
    assert (await world.call("GET", f"{path}/seat")).code == "fixed_charge_not_found"
    answer = await world.call("POST", path, {"fixed_charge": {**wanted, "apply_units_immediately": True}})
    assert answer.json["error_details"] == {"apply_units_immediately": ["not_supported"]}


async def test_metadata_of_a_plan(world: World) -> None:
    """Replaced, merged, one key removed, all removed; it makes no version."""
    await a_plan(world)
    path = f"{PLANS}/pro/metadata"
    assert await world.post(path, {"metadata": {"a": "1", "b": "2"}}) == {"metadata": {"a": "1", "b": "2"}}
    merged = await world.call("PATCH", path, {"metadata": {"b": "3", "c": None}})
    assert merged.json == {"metadata": {"a": "1", "b": "3", "c": None}}
    assert (await world.call("DELETE", f"{path}/a")).json == {"metadata": {"b": "3", "c": None}}
    shown = (await world.get(f"{PLANS}/pro"))["plan"]
    assert (shown["metadata"], shown["version"]) == ({"b": "3", "c": None}, 1)
    assert (await world.call("DELETE", path)).json == {"metadata": None}
    assert (await world.call("DELETE", f"{path}/a")).code == "metadata_not_found"
    assert (await world.call("POST", path, {"metadata": {"a": 1}})).status == 422


async def test_entitlements_one_at_a_time(world: World) -> None:
    """Shown, merged privilege by privilege, a privilege taken away, an entitlement taken away."""
    await world.a_metric()
    await world.a_feature()
    await a_plan(world, entitlements={"chat": {"limit": 10}})
    path = f"{PLANS}/pro/entitlements"
    await world.call("PATCH", path, {"entitlements": {"chat": {"overage": True}}})
    shown = (await world.get(f"{path}/chat"))["entitlement"]
    assert {one["code"]: one["value"] for one in shown["privileges"]} == {"limit": 10, "overage": True}
    assert (
        (await world.get(path))["entitlements"]
        == (await world.get(f"{PLANS}/pro"))["plan"]["entitlements"]
        == [shown]
    )
    less = (await world.call("DELETE", f"{path}/chat/privileges/limit")).json["entitlement"]
    assert [one["code"] for one in less["privileges"]] == ["overage"]
    assert (await world.call("DELETE", f"{path}/chat/privileges/limit")).code == "privilege_not_found"
    assert (await world.call("DELETE", f"{path}/chat")).json["entitlement"] == less
    for target in (f"{path}/chat", f"{path}/chat/privileges/limit"):
        assert (await world.call("DELETE", target)).code == "entitlement_not_found"
    assert (await world.call("GET", f"{path}/chat")).code == "entitlement_not_found"


async def test_a_feature_is_changed_by_what_is_said(world: World) -> None:
    """As Lago: privileges not named stay, options are added; a removed privilege is gone from every plan."""
    privileges = [
        {"code": "seats", "value_type": "integer"},
        {"code": "provider", "value_type": "select", "config": {"select_options": ["google"]}},
    ]
    await world.a_feature(metric=None, privileges=privileges, description="Talk")
    await a_plan(world, entitlements={"chat": {"seats": 5, "provider": "google"}})
    path = "/core/api/v1/features/chat"
    change = {
        "name": "Chat",
        "privileges": [
            {"code": "provider", "config": {"select_options": ["okta", "google"]}},
            {"code": "root", "value_type": "boolean"},
        ],
    }
    changed = (await world.call("PUT", path, {"feature": change})).json["feature"]
    assert (changed["name"], changed["description"]) == ("Chat", "Talk")
    assert [(one["code"], one["value_type"]) for one in changed["privileges"]] == [
        ("seats", "integer"),
        ("provider", "select"),
        ("root", "boolean"),
    ]
    assert changed["privileges"][1]["config"] == {"select_options": ["google", "okta"]}
    for wrong in ([{"code": "seats", "value_type": "string"}], [{"code": "seats"}] * 2):
        assert (await world.call("PUT", path, {"feature": {"privileges": wrong}})).status == 422
    rest = (await world.call("DELETE", f"{path}/privileges/seats")).json["feature"]
    assert [one["code"] for one in rest["privileges"]] == ["provider", "root"]
    entitled = (await world.get(f"{PLANS}/pro/entitlements/chat"))["entitlement"]
    assert [one["code"] for one in entitled["privileges"]] == ["provider"]
    assert (await world.call("DELETE", f"{path}/privileges/seats")).code == "privilege_not_found"


async def test_two_changes_at_once_make_two_versions(world: World) -> None:
    """A plan is changed by one after the other: neither change is lost, and no number is given twice."""
    await a_catalog(world)
    await a_plan(world)
    answers = await asyncio.gather(
        *(
            world.call(
                "POST", f"{PLANS}/pro/charges", {"charge": {**CHARGE, "properties": {"amount": str(n)}}}
            )
            for n in range(1, 6)
        )
    )
    assert [answer.status for answer in answers] == [200] * 5
    charges = (await world.get(f"{PLANS}/pro/charges"))["charges"]
    assert {one["properties"]["amount"] for one in charges} == {"1", "2", "3", "4", "5"}
    versions = (await world.get(f"{PLANS}/pro/versions"))["versions"]
    assert [one["version"] for one in versions] == [1, 2, 3, 4, 5, 6]


async def test_a_plan_tells_how_it_is_used(world: World) -> None:
    """Active subscriptions, their customers, and drafts of their invoices; other plans' and ended ones do not count."""
    await world.turn("2026-01-10")
    await a_plan(world)
    await a_plan(world, code="other")
    for customer in ("acme", "bolt"):
        await world.a_customer(customer, billing_configuration={"invoice_grace_period": 3})
    await world.subscribe("acme", "pro", billing_time="calendar")
    await world.subscribe("bolt", "pro", billing_time="calendar", ending_at="2026-01-20T00:00:00Z")

    async def used(code: str) -> tuple[int, int, int]:
        plan = (await world.get(f"{PLANS}/{code}"))["plan"]
        return plan["active_subscriptions_count"], plan["customers_count"], plan["draft_invoices_count"]

    assert await used("pro") == (2, 2, 0)
    await world.turn("2026-01-20")
    assert await used("pro") == (1, 1, 1)
    await world.turn("2026-02-01")
    assert await used("pro") == (1, 1, 1)
    await world.turn("2026-02-05")
    assert await used("pro") == (1, 1, 0)
    assert await used("other") == (0, 0, 0)
