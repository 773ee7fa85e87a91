"""What a plan grants of credits: what may be said, what is kept, and that it is versioned."""

from typing import Any

import pytest

from world import World

pytestmark = pytest.mark.database

PATH = "/core/api/v1/plans"
PLAN = {"code": "pro", "interval": "monthly", "amount_cents": 0}
MONTHLY = {"credit_system": "credits", "amount": "10"}
SHOWN = {
    "credit_system": "credits",
    "amount": "10",
    "cadence": "period",
    "scope": "customer",
    "priority": 50,
    "rollover": None,
}


async def change(world: World, **said: object) -> dict[str, Any]:
    answer = await world.call("PUT", f"{PATH}/pro", {"plan": said})
    assert answer.status == 200, answer.json
    plan = answer.json["plan"]
    assert isinstance(plan, dict)
    return plan


async def test_what_is_said_is_shown_everywhere(world: World) -> None:
    """Core's plan, its list, its versions and the seed's price list; the defaults are said."""
    wanted = {
        "credit_system": "credits",
        "amount": "0.000000000001",
        "cadence": "lifetime",
        "priority": 0,
    }
    made = (await world.post(PATH, {"plan": {**PLAN, "credits": 3, "credit_grants": [wanted]}}))["plan"]
    assert made["credits"] == 3
    assert made["credit_grants"] == [{**SHOWN, **wanted}]
    assert made["credits_rollover"] is None
    [listed] = (await world.get(PATH))["plans"]
    assert listed["credit_grants"] == made["credit_grants"]
    for path, key in (("/api/v1/plans", None), ("/engine/api/v1/plans", "plans")):
        found = await world.get(path)
        [row] = found[key] if key else found
        assert (row["credits"], row["credit_grants"]) == (3, made["credit_grants"])


async def test_what_is_granted_is_versioned(world: World) -> None:
    """Another amount makes another version, the same makes none; what is left out or null stays; an empty list is none."""
    await world.post(PATH, {"plan": {**PLAN, "credit_grants": [MONTHLY]}})
    assert (await change(world, name="Pro"))["version"] == 1
    assert (await change(world, credit_grants=[{**MONTHLY, "amount": 10.0}]))["version"] == 1
    assert (await change(world, credit_grants=None))["credit_grants"] == [SHOWN]
    changed = await change(world, credit_grants=[{**MONTHLY, "amount": 11}])
    assert (changed["version"], changed["credit_grants"]) == (2, [{**SHOWN, "amount": "11"}])
    assert (await change(world, credit_grants=[]))["credit_grants"] == []
    first = await world.get(f"{PATH}/pro", version=1)
    assert first["plan"]["credit_grants"] == [SHOWN]


@pytest.mark.parametrize(
    ("said", "field", "code"),
    [
        ({"credit_grants": [{**MONTHLY, "amount": 0}]}, "amount", "value_is_out_of_range"),
        ({"credit_grants": [{**MONTHLY, "amount": "-1"}]}, "amount", "value_is_out_of_range"),
        ({"credit_grants": [{"credit_system": "credits"}]}, "credit_grants[0].amount", "value_is_mandatory"),
        ({"credit_grants": [{"amount": 1}]}, "credit_grants[0].credit_system", "value_is_mandatory"),
        ({"credit_grants": [{**MONTHLY, "cadence": "day"}]}, "cadence", "value_is_invalid"),
        ({"credit_grants": [{**MONTHLY, "scope": "team"}]}, "scope", "value_is_invalid"),
        ({"credit_grants": [{**MONTHLY, "priority": -1}]}, "priority", "value_is_out_of_range"),
        ({"credit_grants": [{**MONTHLY, "priority": 1001}]}, "priority", "value_is_out_of_range"),
        ({"credit_grants": [MONTHLY, MONTHLY]}, "credit_grants", "value_is_duplicated"),
        (
            {"credit_grants": [MONTHLY, {**MONTHLY, "cadence": "month"}]},
            "credit_grants",
            "value_is_duplicated",
        ),
        ({"credits": 1, "credit_grants": [MONTHLY]}, "credit_grants", "value_is_duplicated"),
        ({"credits_rollover": {}}, "credits_rollover", "value_is_invalid"),
        ({"credits": 5, "credits_rollover": {"limit": 0}}, "credits_rollover", "value_is_out_of_range"),
        ({"credits": 5, "credits_rollover": {"limit": "x"}}, "credits_rollover.limit", "invalid_amount"),
        ({"credits": 5, "credits_rollover": 5}, "credits_rollover", "invalid_type"),
        (
            {"credit_grants": [{**MONTHLY, "cadence": "lifetime", "rollover": {}}]},
            "rollover",
            "value_is_invalid",
        ),
        ({"credit_grants": [MONTHLY] * 51}, "credit_grants", "too_many"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    world: World, said: dict[str, Any], field: str, code: str
) -> None:
    """422 that names the field, and no plan."""
    answer = await world.call("POST", PATH, {"plan": {**PLAN, **said}})
    assert (answer.status, answer.json.get("error_details")) == (422, {field: [code]})
    assert (await world.call("GET", f"{PATH}/pro")).status == 404


async def test_a_month_and_a_period_of_a_longer_plan_are_not_the_same(world: World) -> None:
    """And becoming a monthly plan, which makes them the same, is refused."""
    grants = [MONTHLY, {**MONTHLY, "cadence": "month"}, {**MONTHLY, "cadence": "lifetime"}]
    await world.post(PATH, {"plan": {**PLAN, "interval": "yearly", "credit_grants": grants}})
    answer = await world.call("PUT", f"{PATH}/pro", {"plan": {"interval": "monthly"}})
    assert answer.json["error_details"] == {"credit_grants": ["value_is_duplicated"]}


async def test_a_rollover_is_versioned(world: World) -> None:
    """Said, kept, changed and taken back; without credits there is nothing to carry."""
    await world.post(PATH, {"plan": {**PLAN, "credits": 5, "credits_rollover": {"limit": 3}}})
    assert (await change(world, credits=6))["credits_rollover"] == {"limit": "3"}
    assert (await change(world, credits_rollover={"limit": "3.0"}))["version"] == 2
    changed = await change(world, credits_rollover={"limit": None})
    assert (changed["version"], changed["credits_rollover"]) == (3, {"limit": None})
    assert (await change(world, credits_rollover=None))["credits_rollover"] is None
    await change(world, credits_rollover={}, credit_grants=[{**MONTHLY, "cadence": "year", "rollover": {}}])
    changed = await change(world, credits=0)
    assert changed["credits_rollover"] is None
    assert changed["credit_grants"][0]["rollover"] == {"limit": None}
    first = await world.get(f"{PATH}/pro", version=1)
    assert first["plan"]["credits_rollover"] == {"limit": "3"}
