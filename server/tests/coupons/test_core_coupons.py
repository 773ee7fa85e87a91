"""Coupons through Core's endpoints."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/coupons"
FIXED = {
    "code": "deal",
    "name": "Startup Deal",
    "coupon_type": "fixed_amount",
    "amount_cents": 5000,
    "amount_currency": "USD",
    "frequency": "once",
    "expiration": "no_expiration",
}
PERCENT = {
    "code": "deal",
    "name": "Startup Deal",
    "coupon_type": "percentage",
    "percentage_rate": "12.5",
    "frequency": "recurring",
    "frequency_duration": 6,
    "expiration": "time_limit",
    "expiration_at": "2026-08-08T23:59:59Z",
}


async def put(world: World, named: str = "deal", **changes: object) -> Any:
    return (await world.call("PUT", f"{PATH}/{named}", {"coupon": changes})).json


async def test_the_life_of_a_coupon(world: World) -> None:
    """Contract 4.12: create, get, list, change, delete, each answering Lago's object."""
    await world.turn("2026-01-01")
    made = (await world.post(PATH, {"coupon": {**FIXED, "description": "For starters"}}))["coupon"]
    assert made == {
        **FIXED,
        "lago_id": made["nozle_id"],
        "nozle_id": made["nozle_id"],
        "description": "For starters",
        "percentage_rate": None,
        "frequency_duration": None,
        "reusable": True,
        "limited_plans": False,
        "limited_billable_metrics": False,
        "plan_codes": [],
        "billable_metric_codes": [],
        "expiration_at": None,
        "terminated_at": None,
        "created_at": "2026-01-01T00:00:00Z",
    }
    assert (await world.get(f"{PATH}/deal"))["coupon"] == made
    found = await world.get(PATH)
    assert (found["coupons"], found["meta"]["total_count"]) == ([made], 1)
    changed = (await put(world, name="Deal", amount_cents=1, description=None))["coupon"]
    assert changed == {**made, "name": "Deal", "amount_cents": 1, "description": None}
    assert (await world.call("DELETE", f"{PATH}/deal")).json == {"coupon": changed}
    for method, body in (("GET", None), ("PUT", {"coupon": {}}), ("DELETE", None)):
        answer = await world.call(method, f"{PATH}/deal", body)
        assert answer.json == {"status": 404, "error": "Not Found", "code": "coupon_not_found"}
    assert (await world.post(PATH, {"coupon": FIXED}))["coupon"]["lago_id"] != made["lago_id"]


async def test_a_coupon_may_become_another_until_a_customer_has_it(world: World) -> None:
    """Also another kind under another code; what the new kind has no use for is gone."""
    await world.turn("2026-01-01")
    await world.post(PATH, {"coupon": FIXED})
    changed = (await put(world, **{**PERCENT, "code": "other"}))["coupon"]
    assert (changed["code"], changed["percentage_rate"], changed["amount_cents"]) == ("other", "12.5", None)
    assert (changed["frequency_duration"], changed["expiration_at"]) == (6, "2026-08-08T23:59:59Z")
    await world.post(PATH, {"coupon": FIXED})
    answer = await put(world, "other", code="deal")
    assert (answer["status"], answer["error_details"]) == (422, {"code": ["value_already_exist"]})
    await world.a_customer()
    given = {"external_customer_id": "acme", "coupon_code": "other"}
    await world.post("/core/api/v1/applied_coupons", {"applied_coupon": given})
    for change in (
        {"code": "third"},
        {"percentage_rate": 5},
        {"frequency": "forever"},
        {"frequency_duration": 2},
        {"reusable": False},
    ):
        answer = await put(world, "other", **change)
        assert answer["status"] == 422, change
        assert set(change) <= set(answer["error_details"])
    same = await put(
        world, "other", **{**PERCENT, "code": "other", "name": "New", "expiration": "no_expiration"}
    )
    assert (same["coupon"]["name"], same["coupon"]["expiration_at"]) == ("New", None)


@pytest.mark.parametrize(
    ("base", "change", "status", "details"),
    [
        (FIXED, {"amount_cents": None}, 422, {"amount_cents": ["value_is_mandatory"]}),
        (FIXED, {"amount_cents": 0}, 422, {"amount_cents": ["value_is_out_of_range"]}),
        (FIXED, {"amount_currency": None}, 422, {"amount_currency": ["value_is_mandatory"]}),
        (FIXED, {"amount_currency": "usd"}, 422, {"amount_currency": ["value_is_invalid"]}),
        (FIXED, {"coupon_type": "gift"}, 422, {"coupon_type": ["value_is_invalid"]}),
        (FIXED, {"frequency": "twice"}, 422, {"frequency": ["value_is_invalid"]}),
        (FIXED, {"frequency": "recurring"}, 422, {"frequency_duration": ["value_is_mandatory"]}),
        (FIXED, {"expiration": "never"}, 422, {"expiration": ["value_is_invalid"]}),
        (FIXED, {"expiration": "time_limit"}, 422, {"expiration_at": ["value_is_mandatory"]}),
        (FIXED, {"code": "taken"}, 422, {"code": ["value_already_exist"]}),
        (FIXED, {"applies_to": {"plan_codes": ["none"]}}, 404, None),
        (FIXED, {"applies_to": {"billable_metric_codes": ["none"]}}, 404, None),
        (PERCENT, {"percentage_rate": None}, 422, {"percentage_rate": ["value_is_mandatory"]}),
        (PERCENT, {"percentage_rate": 0}, 422, {"percentage_rate": ["value_is_out_of_range"]}),
        (PERCENT, {"percentage_rate": "ten"}, 422, {"percentage_rate": ["invalid_amount"]}),
        (PERCENT, {"frequency_duration": 0}, 422, {"frequency_duration": ["value_is_out_of_range"]}),
        (PERCENT, {"expiration_at": "2025-12-31"}, 422, {"expiration_at": ["invalid_date"]}),
        (PERCENT, {"expiration_at": "soon"}, 422, {"expiration_at": ["invalid_date"]}),
        (PERCENT, {"expiration_at": {"day": 1}}, 422, {"expiration_at": ["invalid_date"]}),
        (PERCENT, {"reusable": None}, 422, {"reusable": ["value_is_mandatory"]}),
    ],
)
async def test_a_bad_coupon_is_refused_with_the_field_named(
    world: World,
    base: dict[str, Any],
    change: dict[str, Any],
    status: int,
    details: dict[str, list[str]] | None,
) -> None:
    await world.turn("2026-01-01")
    await world.post(PATH, {"coupon": {**FIXED, "code": "taken"}})
    answer = await world.call("POST", PATH, {"coupon": {**base, **change}})
    assert (answer.status, answer.json.get("error_details")) == (status, details), answer.body
    assert (await world.get(PATH))["meta"]["total_count"] == 1


async def test_a_coupon_may_be_limited_to_plans_or_to_metrics(world: World) -> None:
    await world.a_metric()
    for code in ("pro", "team"):
        await world.a_plan(code=code)
    both = {"plan_codes": ["pro"], "billable_metric_codes": ["tokens"]}
    answer = await world.call("POST", PATH, {"coupon": {**FIXED, "applies_to": both}})
    assert (answer.status, answer.code) == (422, "only_one_limitation_type_per_coupon_allowed")
    wanted = {**FIXED, "applies_to": {"plan_codes": ["team", "pro", "pro"], "billable_metric_codes": []}}
    made = (await world.post(PATH, {"coupon": wanted}))["coupon"]

    def shown(coupon: Any) -> tuple[object, ...]:
        return (
            coupon["limited_plans"],
            coupon["plan_codes"],
            coupon["limited_billable_metrics"],
            coupon["billable_metric_codes"],
        )

    assert shown(made) == (True, ["pro", "team"], False, [])
    assert shown((await put(world, name="Same limits"))["coupon"]) == shown(made)
    assert shown((await put(world, applies_to=None))["coupon"]) == shown(made)
    assert (await put(world, applies_to={"plan_codes": ["none"]}))["code"] == "plans_not_found"
    by_metric = (await put(world, applies_to={"billable_metric_codes": ["tokens"]}))["coupon"]
    assert shown(by_metric) == (False, [], True, ["tokens"])
    free = (await put(world, applies_to={"plan_codes": [], "billable_metric_codes": []}))["coupon"]
    assert shown(free) == (False, [], False, [])
    assert shown((await world.get(f"{PATH}/deal"))["coupon"]) == (False, [], False, [])


async def test_a_coupon_ends_at_its_instant(world: World) -> None:
    await world.turn("2026-01-01")
    await world.post(PATH, {"coupon": {**PERCENT, "expiration_at": "2026-02-01"}})
    await world.turn("2026-01-31T23:59:59Z")
    assert (await world.get(f"{PATH}/deal"))["coupon"]["terminated_at"] is None
    await world.turn("2026-02-01")
    ended = (await world.get(f"{PATH}/deal"))["coupon"]
    assert (ended["expiration_at"], ended["terminated_at"]) == (
        "2026-02-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
    )
    await world.turn("2026-03-01")
    assert (await put(world, name="Past"))["coupon"]["name"] == "Past"


async def test_coupons_are_an_organizations_own(world: World, other_world: World) -> None:
    await world.post(PATH, {"coupon": FIXED})
    assert (await other_world.call("GET", f"{PATH}/deal")).status == 404
    assert (await world.call("DELETE", f"{PATH}/deal", key=world.publishable)).status == 403
    await other_world.a_plan(code="theirs")
    answer = await put(world, applies_to={"plan_codes": ["theirs"]})
    assert answer["code"] == "plans_not_found"
