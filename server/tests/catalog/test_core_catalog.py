"""The catalog through Core's endpoints: metrics, features, plans and their entitlements."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

METRIC = {"code": "tokens", "name": "Tokens", "aggregation_type": "sum_agg", "field_name": "n"}
FEATURE = {"code": "chat", "name": "Chat", "billable_metric_code": "tokens"}
CHARGE = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.01"}}
FIXED = {"add_on_code": "seat", "charge_model": "standard", "units": 2, "properties": {"amount": "10"}}
PLAN = {"code": "pro", "name": "Pro", "interval": "monthly", "amount_cents": 4900, "amount_currency": "EUR"}

BUILT_IN = "llm_tokens"  # every organization has this metric from the start (Decision 21)
# Envelope, plural and path, what to send, what else to send when it is changed, the code of the 404.
RESOURCES = [
    (
        "billable_metric",
        "billable_metrics",
        METRIC,
        {"description": "All of them"},
        "billable_metric_not_found",
    ),
    ("feature", "features", FEATURE, {"description": "With people"}, "feature_not_found"),
    ("plan", "plans", {**PLAN, "charges": [CHARGE]}, {"description": "For teams"}, "plan_not_found"),
]


async def a_metric(world: World, name: str) -> None:
    """The metric that FEATURE and CHARGE point at."""
    if name != "billable_metric":
        await world.post("/core/api/v1/billable_metrics", {"billable_metric": METRIC})


@pytest.mark.parametrize(("name", "plural", "wanted", "change", "missing"), RESOURCES)
async def test_the_life_of_a_resource(
    world: World, name: str, plural: str, wanted: dict[str, Any], change: dict[str, Any], missing: str
) -> None:
    """Contract 4.12: create, get, list, replace, delete; each answers the object in its envelope, a 404 thereafter."""
    await a_metric(world, name)
    path, code = f"/core/api/v1/{plural}", wanted["code"]
    made = (await world.post(path, {name: wanted}))[name]
    assert made["lago_id"] == made["nozle_id"]
    for field in ("code", "name"):
        assert made[field] == wanted[field]
    assert (await world.get(f"{path}/{code}"))[name] == made
    found = await world.get(path)
    assert [one for one in found[plural] if one["code"] != BUILT_IN] == [made]
    assert found["meta"]["total_count"] == len(found[plural])
    changed = (await world.call("PUT", f"{path}/{code}", {name: {**wanted, **change}})).json[name]
    assert changed["description"] == change["description"]
    assert (changed["lago_id"], changed["created_at"]) == (made["lago_id"], made["created_at"])
    assert (await world.call("DELETE", f"{path}/{code}")).json[name]["code"] == code
    for method, body in (("GET", None), ("PUT", {name: wanted}), ("DELETE", None)):
        answer = await world.call(method, f"{path}/{code}", body)
        assert answer.json == {"status": 404, "error": "Not Found", "code": missing}
    assert all(one["code"] == BUILT_IN for one in (await world.get(path))[plural])
    assert (await world.post(path, {name: wanted}))[name]["lago_id"] != made["lago_id"]


@pytest.mark.parametrize(("name", "plural", "wanted", "change", "missing"), RESOURCES)
async def test_a_code_that_is_taken_and_a_code_that_changes(
    world: World, name: str, plural: str, wanted: dict[str, Any], change: dict[str, Any], missing: str
) -> None:
    """422 `value_already_exist` in Core's form with the field named; a code is fixed; pk_ and strangers have no way in."""
    await a_metric(world, name)
    path = f"/core/api/v1/{plural}"
    await world.post(path, {name: wanted})
    answer = await world.call("POST", path, {name: {**wanted, **change}})
    assert answer.status == 422
    assert answer.json["error_details"] == {"code": ["value_already_exist"]}
    answer = await world.call("PUT", f"{path}/{wanted['code']}", {name: {**wanted, "code": "other"}})
    assert (answer.status, answer.json["error_details"]) == (422, {"code": ["value_is_fixed"]})
    for method, target, body in (("POST", path, {name: wanted}), ("GET", path, None)):
        assert (await world.call(method, target, body, key=world.publishable)).status == 403
    assert (await world.get(f"{path}/{wanted['code']}"))[name]["description"] is None


@pytest.mark.parametrize(("name", "plural", "wanted", "change", "missing"), RESOURCES)
async def test_pages_join_without_gap_or_twin(
    world: World,
    other_world: World,
    name: str,
    plural: str,
    wanted: dict[str, Any],
    change: dict[str, Any],
    missing: str,
) -> None:
    """Contract 3.6: Core's meta on every page; another organization's objects are on none."""
    await a_metric(world, name)
    path = f"/core/api/v1/{plural}"
    for n in range(5):
        await world.post(path, {name: {**wanted, "code": f"c{n}"}})
    total = (await world.get(path))["meta"]["total_count"]
    pages = [await world.get(f"{path}?per_page=2&page={page}") for page in range(1, -(-total // 2) + 1)]
    codes = [one["code"] for page in pages for one in page[plural]]
    assert len(codes) == len(set(codes)) == total
    assert {f"c{n}" for n in range(5)} <= set(codes)
    for number, page in enumerate(pages, start=1):
        last = number == len(pages)
        assert page["meta"] == {
            "current_page": number,
            "next_page": None if last else number + 1,
            "prev_page": number - 1 or None,
            "total_pages": len(pages),
            "total_count": total,
        }
    theirs = {one["code"] for one in (await other_world.get(path))[plural]}
    assert not theirs & {f"c{n}" for n in range(5)}
    for query in ("page=0", "per_page=101", "per_page=0", "page=-1", "page=x"):
        answer = await world.call("GET", f"{path}?{query}")
        assert (answer.status, answer.code) == (422, "validation_errors")


@pytest.mark.parametrize(
    ("plural", "body"),
    [
        ("billable_metrics", {"billable_metric": {**METRIC, "aggregation_type": "median_agg"}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "field_name": None}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "expression": "event.properties.a +"}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "expression": "__import__('os')"}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "code": ""}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "code": "x" * 256}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "code": " tokens"}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "filters": [{"key": "a", "values": []}]}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "filters": [{"key": "a", "values": ["b"]}] * 2}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "rounding_function": "truncate"}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "rounding_precision": 16}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "weighted_interval": "days"}}),
        ("billable_metrics", {"billable_metric": {**METRIC, "aggregation_type": "weighted_sum_agg"}}),
        (
            "billable_metrics",
            {"billable_metric": {**METRIC, "aggregation_type": "max_agg", "recurring": True}},
        ),
        ("billable_metrics", {"billable_metric": {"code": "tokens"}}),
        ("billable_metrics", {"billable_metric": []}),
        ("billable_metrics", {"feature": FEATURE}),
        ("features", {"feature": {"code": ""}}),
        ("features", {"feature": {"code": "x", "privileges": [{"code": "a", "value_type": "money"}]}}),
        ("features", {"feature": {"code": "x", "privileges": [{"code": "a", "value_type": "select"}]}}),
        ("features", {"feature": {"code": "x", "privileges": [{"code": "a"}, {"code": "a"}]}}),
        ("features", {"feature": {"code": "x", "privileges": [{"code": "limit"}]}}),
        ("plans", {"plan": {**PLAN, "interval": "hourly"}}),
        ("plans", {"plan": {**PLAN, "amount_cents": -1}}),
        ("plans", {"plan": {**PLAN, "amount_cents": 1.5}}),
        ("plans", {"plan": {**PLAN, "amount_cents": 10**18}}),
        ("plans", {"plan": {**PLAN, "amount_currency": "EURO"}}),
        ("plans", {"plan": {**PLAN, "currency": "USD"}}),
        ("plans", {"plan": {**PLAN, "credits": -1}}),
        ("plans", {"plan": {**PLAN, "charges": [{**CHARGE, "charge_model": "custom"}]}}),
        ("plans", {"plan": {**PLAN, "charges": [{**CHARGE, "properties": {"amount": "-1"}}]}}),
        ("plans", {"plan": {**PLAN, "charges": [{**CHARGE, "properties": {"amount": None}}]}}),
        (
            "plans",
            {
                "plan": {
                    **PLAN,
                    "charges": [{**CHARGE, "filters": [{"values": {"a": ["b"]}, "properties": {}}]}],
                }
            },
        ),
        ("plans", {"plan": {**PLAN, "charges": [CHARGE] * 201}}),
        ("plans", {"plan": {**PLAN, "entitlements": {"chat": "yes"}}}),
        ("plans", {"plan": {**PLAN, "entitlements": {"chat": {"limit": -1}}}}),
        ("plans", {"plan": {**PLAN, "entitlements": {"chat": {"limit": True}}}}),
        ("plans", {"plan": {**PLAN, "entitlements": {"chat": {"overage": "no"}}}}),
    ],
)
async def test_bad_input_is_a_422_with_its_field_named(
    world: World, plural: str, body: dict[str, Any]
) -> None:
    """Contract 3.2: `validation_errors` with `error_details`, lists of codes; nothing is stored."""
    if plural == "plans":
        await a_metric(world, "plan")
        await world.post("/core/api/v1/features", {"feature": FEATURE})
    before = (await world.get(f"/core/api/v1/{plural}"))["meta"]["total_count"]
    answer = await world.call("POST", f"/core/api/v1/{plural}", body)
    assert (answer.status, answer.code) == (422, "validation_errors"), answer.body
    details = answer.json["error_details"]
    assert details
    assert all(isinstance(codes, list) and codes for codes in details.values())
    assert (await world.get(f"/core/api/v1/{plural}"))["meta"]["total_count"] == before


async def test_unknown_objects_in_a_draft_are_told_by_name(world: World) -> None:
    """404 with the object's code: a feature's metric, a charge's metric, an entitlement's feature."""
    for plural, body, code in (
        ("features", {"feature": FEATURE}, "billable_metric_not_found"),
        ("plans", {"plan": {**PLAN, "charges": [CHARGE]}}, "billable_metric_not_found"),
        ("plans", {"plan": {**PLAN, "entitlements": {"chat": True}}}, "feature_not_found"),
        ("plans", {"plan": {**PLAN, "tax_codes": ["vat"]}}, "tax_not_found"),
        ("plans", {"plan": {**PLAN, "fixed_charges": [FIXED]}}, "add_on_not_found"),
    ):
        answer = await world.call("POST", f"/core/api/v1/{plural}", body)
        assert (answer.status, answer.code) == (404, code)
    assert (await world.get("/core/api/v1/plans"))["plans"] == []


async def test_a_metric_in_use_stays_and_keeps_how_it_counts(world: World) -> None:
    """A charge or a feature holds it; once it has counted, what it counts is fixed, and its name is not."""
    await world.turn("2026-01-01")
    await a_metric(world, "plan")
    path = "/core/api/v1/billable_metrics/tokens"
    await world.post("/core/api/v1/features", {"feature": FEATURE})
    answer = await world.call("DELETE", path)
    assert (answer.status, answer.code) == (422, "metric_in_use")
    await world.post("/core/api/v1/plans", {"plan": {**PLAN, "charges": [CHARGE]}})
    assert (await world.call("DELETE", "/core/api/v1/features/chat")).status == 200
    assert (await world.call("DELETE", path)).code == "metric_in_use"
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.use("acme", 5)
    other_count = {"billable_metric": {**METRIC, "field_name": "m"}}
    assert (await world.call("PUT", path, other_count)).code == "metric_has_usage"
    assert (
        await world.call("PUT", path, {"billable_metric": {**METRIC, "name": "All tokens"}})
    ).status == 200


async def test_another_price_is_another_version_that_subscribers_do_not_get(world: World) -> None:
    """Who subscribed before pays what was agreed; a change of name or the same again makes no version."""
    await world.turn("2026-01-01")
    await a_metric(world, "plan")
    plan = {**PLAN, "charges": [CHARGE]}
    path = "/core/api/v1/plans/pro"

    async def put(**change: object) -> dict[str, Any]:
        answer = await world.call("PUT", path, {"plan": {**plan, **change}})
        assert answer.status == 200, answer.body
        changed = answer.json["plan"]
        assert isinstance(changed, dict)
        return changed

    made = (await world.post("/core/api/v1/plans", {"plan": plan}))["plan"]
    assert made["version"] == 1
    for customer in ("old", "new"):
        await world.a_customer(customer)
    await world.subscribe("old", "pro")
    assert (await put())["version"] == 1
    assert (await put(name="Professional"))["version"] == 1
    dearer = await put(amount_cents=5900, charges=[{**CHARGE, "properties": {"amount": "0.02"}}])
    assert dearer["version"] == 2
    assert dearer["charges"][0]["lago_id"] == made["charges"][0]["lago_id"]
    await world.subscribe("new", "pro")
    for customer, price in (("old", 4900), ("new", 5900)):
        await world.use(customer, 100)
        status = await world.get("/api/v1/billing/status", customer_id=customer)
        assert (status["amount_cents"], status["plan"]) == (price, "pro")
    await world.turn("2026-02-02")
    assert [amount for _, amount in await world.lines("old")] == [4900, 100]
    assert [amount for _, amount in await world.lines("new")] == [5900, 200]
    answer = await world.call("DELETE", path)
    assert (answer.status, answer.code) == (422, "plan_has_subscriptions")


async def test_entitlements_reach_subscribers_at_once(world: World) -> None:
    """C: the next can() knows; replace, change some, take one away; a failed change changes nothing."""
    await world.turn("2026-01-01")
    await a_metric(world, "plan")
    await world.post("/core/api/v1/features", {"feature": FEATURE})
    await world.post("/core/api/v1/features", {"feature": {"code": "sso"}})
    await world.post("/core/api/v1/plans", {"plan": {**PLAN, "entitlements": {"chat": {"limit": 10}}}})
    await world.a_customer()
    await world.subscribe("acme", "pro")
    path = "/core/api/v1/plans/pro/entitlements"

    async def rights() -> tuple[object, bool]:
        chat, sso = await world.can("acme", "chat"), await world.can("acme", "sso")
        return chat["limit"] if chat["allowed"] else "denied", sso["allowed"]

    assert await rights() == (10, False)
    await world.call("PATCH", path, {"entitlements": {"sso": True}})
    assert await rights() == (10, True)
    await world.call("PATCH", path, {"entitlements": {"chat": {"limit": 0.5}, "sso": False}})
    assert (await rights())[1] is False
    assert (await world.can("acme", "chat"))["remaining"] == 0.5
    shown = await world.post(path, {"entitlements": {"sso": None}})
    assert [one["code"] for one in shown["entitlements"]] == ["sso"]
    assert await rights() == ("denied", True)
    for body in (
        {"chat": {"limit": 3}, "nothing": True},
        {"chat": {"limit": "many"}},
        {"chat": {"limit": 3, "speed": 1}},
    ):
        assert (await world.call("POST", path, {"entitlements": body})).status in (404, 422)
    assert await rights() == ("denied", True)
    assert (await world.call("DELETE", f"{path}/sso")).json["entitlement"]["code"] == "sso"
    assert (await world.get(path)) == {"entitlements": []}
    answer = await world.call("DELETE", f"{path}/sso")
    assert (answer.status, answer.code) == (404, "entitlement_not_found")
    assert (await world.call("GET", "/core/api/v1/plans/none/entitlements")).code == "plan_not_found"
    assert await rights() == ("denied", False)


async def test_the_price_list_is_cheapest_first_in_both_shapes(world: World) -> None:
    """Decision 2: a bare array on /api/v1, wrapped on /engine; open to pk_."""
    for code, cents in (("b", 200), ("a", 100), ("c", 300)):
        await world.a_plan(code=code, amount_cents=cents)
    bare = await world.call("GET", "/api/v1/plans", key=world.publishable)
    assert [one["code"] for one in bare.json] == ["a", "b", "c"]
    wrapped = await world.call("GET", "/engine/api/v1/plans", key=world.publishable)
    assert wrapped.json == {"plans": bare.json}
