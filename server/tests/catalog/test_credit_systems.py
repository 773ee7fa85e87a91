"""Credit systems and their rates through the API."""

import asyncio
from typing import Any

import asyncpg
import pytest

from nozle_server.catalog.queries import find_rate
from nozle_server.core.errors import RuleBroken
from world import Answer, World, instant

pytestmark = pytest.mark.database

PATH = "/core/api/v1/credit-systems"
GPU = {
    "code": "gpu",
    "name": "GPU",
    "unit_name": "seconds",
    "features": ["render"],
    "description": "Of any card",
}
RATE = {"metric_amount": "1000", "credit_amount": "2"}


async def a_system(world: World, **more: object) -> dict[str, Any]:
    made = await world.post(PATH, {"credit_system": {**GPU, **more}})
    assert isinstance(made["credit_system"], dict)
    return made["credit_system"]


async def put(world: World, of: str, **change: object) -> Answer:
    return await world.call("PUT", f"{PATH}/{of}", {"credit_system": change})


async def rate(world: World, metric: str = "tokens", system: str = "gpu", **more: object) -> Answer:
    return await world.call("PUT", f"{PATH}/{system}/rates/{metric}", {**RATE, **more})


async def version(world: World) -> int:
    [row] = await world.fetch("select credits_version from organizations where id = $1")
    found = row["credits_version"]
    assert isinstance(found, int)
    return found


def spans(answer: Answer) -> list[tuple[str, str, str | None]]:
    """(credits, from, to) of each version; the instants as dates."""
    return [
        (one["credit_amount"], one["effective_from"][:10], one["effective_to"] and one["effective_to"][:10])
        for one in answer.json["credit_rate"]["versions"]
    ]


async def test_every_organization_has_the_default_system(world: World) -> None:
    """Decision 6; it is what the published client's `credit_systems.list()` reads (contract 4.2, appendix A)."""
    found = await world.get(PATH, status="active", page=1, per_page=100)
    [system] = found["credit_systems"]
    assert (system["code"], system["status"], system["features"]) == ("credits", "active", [])
    for field in ("lago_id", "nozle_id", "name", "unit_name", "created_at", "updated_at"):
        assert isinstance(system[field], str)
        assert system[field]
    assert system["description"] is None
    assert found["meta"]["next_page"] is None
    answer = await world.call("DELETE", f"{PATH}/credits")
    assert (answer.status, answer.json["code"]) == (422, "default_credit_system")
    assert (await put(world, "credits", status="archived")).json["code"] == "default_credit_system"


@pytest.mark.parametrize("mount", ["/core/api/v1", "/api/v1", "/engine/api/v1"])
async def test_the_life_of_a_system(world: World, mount: str) -> None:
    path = f"{mount}/credit-systems"
    made = (await world.post(path, {"credit_system": GPU}))["credit_system"]
    assert {name: made[name] for name in GPU} == GPU
    assert made["nozle_id"] == made["lago_id"]
    assert (await world.get(f"{path}/gpu"))["credit_system"] == made
    changed = await world.call("PUT", f"{path}/gpu", {"credit_system": {"name": "GPUs"}})
    kept = ("lago_id", "code", "description", "unit_name", "features", "status", "created_at")
    assert changed.json["credit_system"]["name"] == "GPUs"
    assert {name: changed.json["credit_system"][name] for name in kept} == {name: made[name] for name in kept}
    archived = (await world.call("DELETE", f"{path}/gpu")).json["credit_system"]
    assert (archived["status"], archived["features"]) == ("archived", [])
    assert (await world.call("DELETE", f"{path}/gpu")).json["credit_system"] == archived
    for status, codes in (("active", ["credits"]), ("archived", ["gpu"]), (None, ["credits", "gpu"])):
        query = {} if status is None else {"status": status}
        assert [one["code"] for one in (await world.get(path, **query))["credit_systems"]] == codes
    again = await world.call("PUT", f"{path}/gpu", {"credit_system": {"status": "active"}})
    assert again.json["credit_system"]["status"] == "active"
    assert again.json["credit_system"]["lago_id"] == made["lago_id"]


async def test_pages(world: World) -> None:
    for n in range(3):
        await a_system(world, code=f"s{n}", features=[])
    first = await world.get(PATH, per_page=2)
    assert [one["code"] for one in first["credit_systems"]] == ["credits", "s0"]
    assert first["meta"]["next_page"] == 2
    second = await world.get(PATH, per_page=2, page=2)
    assert [one["code"] for one in second["credit_systems"]] == ["s1", "s2"]
    assert (second["meta"]["next_page"], second["meta"]["total_count"]) == (None, 4)


async def test_what_is_said_too_little_of_is_made_up(world: World) -> None:
    made = (await world.post(PATH, {"credit_system": {"code": "gpu"}}))["credit_system"]
    assert (made["name"], made["unit_name"], made["features"]) == ("gpu", "credits", [])


@pytest.mark.parametrize(
    ("wrong", "field", "code"),
    [
        ({"code": ""}, "code", "value_is_mandatory"),
        ({"code": None}, "code", "value_is_mandatory"),
        ({"code": "gpu "}, "code", "value_is_invalid"),
        ({"code": "x" * 256}, "code", "value_is_too_long"),
        ({"name": " x"}, "name", "value_is_invalid"),
        ({"unit_name": 3}, "unit_name", "invalid_type"),
        ({"features": [""]}, "features", "value_is_mandatory"),
        ({"features": "chat"}, "features", "invalid_type"),
        ({"features": [f"f{n}" for n in range(1_001)]}, "features", "too_many"),
        ({"code": "credits"}, "code", "value_already_exist"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    world: World, wrong: dict[str, object], field: str, code: str
) -> None:
    before = await version(world)
    answer = await world.call("POST", PATH, {"credit_system": {**GPU, **wrong}})
    assert (answer.status, answer.json["error_details"]) == (422, {field: [code]})
    assert await version(world) == before
    assert (await world.get(PATH))["meta"]["total_count"] == 1


async def test_changes_that_are_refused(world: World) -> None:
    await a_system(world)
    for change, field, code in (
        ({"code": "other"}, "code", "value_is_fixed"),
        ({"status": "gone"}, "status", "value_is_invalid"),
    ):
        answer = await put(world, "gpu", **change)
        assert (answer.status, answer.json["error_details"]) == (422, {field: [code]})
    assert (await world.call("GET", PATH + "?status=gone")).status == 422
    for method, body in (("GET", None), ("PUT", {"credit_system": {}}), ("DELETE", None)):
        answer = await world.call(method, f"{PATH}/none", body)
        assert (answer.status, answer.json["code"]) == (404, "credit_system_not_found")
        assert (await world.call(method, f"{PATH}/gpu", body, key=world.publishable)).status == 403


async def test_a_feature_label_belongs_to_one_system(world: World) -> None:
    """422 for the second; what is archived gives its labels up; and the database decides."""
    await a_system(world)
    answer = await world.call("POST", PATH, {"credit_system": {"code": "other", "features": ["a", "render"]}})
    assert (answer.status, answer.json["code"]) == (422, "feature_taken")
    await a_system(world, code="other", features=["a", "a"])
    assert (await put(world, "other", features=["render"])).json["code"] == "feature_taken"
    with pytest.raises(asyncpg.UniqueViolationError):
        await world.fetch(
            "update credit_systems set features = '{render}' where org_id = $1 and code = 'other'"
        )
    assert (await put(world, "gpu", features=["b"])).status == 200
    assert (await put(world, "other", features=["render"])).json["credit_system"]["features"] == ["render"]
    await world.call("DELETE", f"{PATH}/other")
    assert (await put(world, "gpu", features=["render", "a"])).status == 200


async def test_two_who_want_one_label(world: World) -> None:
    """One winner, whoever asks at once."""
    wanted = [{"credit_system": {"code": f"s{n}", "features": ["chat"]}} for n in range(5)]
    answers = await asyncio.gather(*(world.call("POST", PATH, body) for body in wanted))
    assert sorted(answer.status for answer in answers) == [200, 422, 422, 422, 422]


async def test_each_change_is_told(world: World) -> None:
    """What remembers the systems compares `credits_version`: it rises with every change of them."""
    seen = [await version(world)]
    await a_system(world)
    for deed in (
        put(world, "gpu", features=["x"]),
        world.call("DELETE", f"{PATH}/gpu"),
        put(world, "gpu", status="active"),
    ):
        seen.append(await version(world))
        assert (await deed).status == 200
    seen.append(await version(world))
    assert seen == sorted(set(seen))


async def test_what_a_plan_grants_is_not_archived(world: World) -> None:
    """422 while a plan can be taken, or is had, that grants it."""
    await a_system(world)
    await world.a_plan(credit_grants=[{"credit_system": "gpu", "amount": "5"}])
    answer = await world.call("DELETE", f"{PATH}/gpu")
    assert (answer.status, answer.json["code"]) == (422, "credit_system_in_use")
    await world.call("DELETE", "/core/api/v1/plans/pro")
    assert (await world.call("DELETE", f"{PATH}/gpu")).status == 200
    plan = {"code": "p", "interval": "monthly", "amount_cents": 0}
    for system, code in (("gpu", "credit_system_archived"), ("none", "credit_system_not_found")):
        grants = [{"credit_system": system, "amount": "5"}]
        answer = await world.call("POST", "/core/api/v1/plans", {"plan": {**plan, "credit_grants": grants}})
        assert answer.json["code"] == code


# Rates.


async def test_a_rate_and_its_versions(world: World) -> None:
    """Contract 4.2: an edit closes the old version and opens the next; amounts are decimal strings."""
    await a_system(world)
    await world.a_metric()
    await world.at("2026-01-01")
    first = (await rate(world)).json["credit_rate"]
    assert (first["metric_amount"], first["credit_amount"]) == ("1000", "2")
    assert (first["credit_system"], first["billable_metric_code"]) == ("gpu", "tokens")
    assert first["nozle_id"] == first["lago_id"]
    await world.at("2026-02-01")
    assert spans(await rate(world, credit_amount=3)) == [
        ("2", "2026-01-01", "2026-02-01"),
        ("3", "2026-02-01", None),
    ]
    assert (await world.call("GET", f"{PATH}/gpu/rates/tokens")).json["credit_rate"]["credit_amount"] == "3"
    # The same again changes nothing.
    assert len(spans(await rate(world, credit_amount="3.000"))) == 2
    # The Core form of the body.
    wrapped = {"credit_rate": {**RATE, "credit_amount": "0.5"}}
    answer = await world.call("PUT", f"{PATH}/gpu/rates/tokens", wrapped)
    # Replaced in the instant it began: kept, for no time at all.
    assert spans(answer)[1:] == [("3", "2026-02-01", "2026-02-01"), ("0.5", "2026-02-01", None)]
    ended = await world.at("2026-03-01").call("DELETE", f"{PATH}/gpu/rates/tokens")
    assert spans(ended)[-1] == ("0.5", "2026-02-01", "2026-03-01")
    assert ended.json["credit_rate"]["credit_amount"] is None
    assert (await world.call("DELETE", f"{PATH}/gpu/rates/tokens")).json == ended.json


async def test_a_rate_to_come(world: World) -> None:
    """It holds from its instant on; what was to come and is replaced before holds never; what has held stays."""
    await a_system(world)
    await world.a_metric()
    await world.at("2026-01-01")
    await rate(world)
    assert (await rate(world, credit_amount=3, effective_from="2026-03-01T00:00:00Z")).json["credit_rate"][
        "credit_amount"
    ] == "2"
    answer = await rate(world, credit_amount=4, effective_from="2026-02-01T00:00:00Z")
    assert spans(answer) == [
        ("2", "2026-01-01", "2026-02-01"),
        ("4", "2026-02-01", None),
        ("3", "2026-03-01", "2026-03-01"),
    ]
    await world.at("2026-02-01")
    assert (await world.call("GET", f"{PATH}/gpu/rates/tokens")).json["credit_rate"]["credit_amount"] == "4"
    answer = await rate(world, credit_amount=9, effective_from="2026-01-31T23:59:59Z")
    assert answer.json["error_details"] == {"effective_from": ["value_is_out_of_range"]}
    # A first one may hold from the past on.
    await world.a_metric(code="calls", how="count_agg")
    assert spans(await rate(world, "calls", effective_from="2025-01-01T00:00:00Z")) == [
        ("2", "2025-01-01", None)
    ]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"metric_amount": 0}, "metric_amount"),
        ({"credit_amount": "-1"}, "credit_amount"),
        ({"credit_amount": "0"}, "credit_amount"),
        ({"credit_amount": None}, "credit_amount"),
        ({"metric_amount": "1e3"}, "metric_amount"),
        ({"metric_amount": "0.0000000000001"}, "metric_amount"),
        ({"effective_from": "soon"}, "effective_from"),
        ({"effective_from": True}, "effective_from"),
    ],
)
async def test_a_rate_that_makes_no_sense(world: World, wrong: dict[str, object], field: str) -> None:
    await a_system(world)
    await world.a_metric()
    answer = await rate(world, **wrong)
    assert answer.status == 422
    assert list(answer.json["error_details"]) == [field]
    answer = await world.call("GET", f"{PATH}/gpu/rates/tokens")
    assert (answer.status, answer.json["code"]) == (404, "credit_rate_not_found")


@pytest.mark.parametrize(
    ("how", "more", "status"),
    [
        ("count_agg", {}, 200),
        ("sum_agg", {}, 200),
        ("sum_agg", {"expression": "event.properties.a + event.properties.b"}, 422),
        ("sum_agg", {"recurring": True}, 422),
        ("max_agg", {}, 422),
        ("unique_count_agg", {}, 422),
        ("latest_agg", {}, 422),
        ("weighted_sum_agg", {"weighted_interval": "seconds"}, 422),
    ],
)
async def test_only_what_is_consumed_has_a_rate(
    world: World, how: str, more: dict[str, object], status: int
) -> None:
    """Contract 2.9: a count, or the sum of a property."""
    await a_system(world)
    await world.a_metric(how=how, **more)
    answer = await rate(world)
    assert answer.status == status
    if status == 422:
        assert answer.json["code"] == "metric_not_consumable"


async def test_a_rate_of_what_is_not_there(world: World) -> None:
    await a_system(world)
    await world.a_metric()
    assert (await rate(world, system="none")).json["code"] == "credit_system_not_found"
    assert (await rate(world, "none")).json["code"] == "billable_metric_not_found"
    await world.call("DELETE", f"{PATH}/gpu")
    assert (await rate(world)).json["code"] == "credit_system_archived"


async def test_a_metric_with_rate_history_is_locked(world: World) -> None:
    """Contract 4.2: neither what it counts nor that it is there changes, also when its rate has ended."""
    await a_system(world)
    await world.a_metric()
    await rate(world)
    await world.call("DELETE", f"{PATH}/gpu/rates/tokens")
    path = "/core/api/v1/billable_metrics/tokens"
    for change in ({"aggregation_type": "max_agg"}, {"field_name": "m"}, {"recurring": True}):
        answer = await world.call("PUT", path, {"billable_metric": change})
        assert (answer.status, answer.json["code"]) == (422, "metric_has_rate_history")
    answer = await world.call("DELETE", path)
    assert (answer.status, answer.json["code"]) == (422, "metric_has_rate_history")
    changed = await world.call("PUT", path, {"billable_metric": {"name": "All tokens"}})
    assert changed.json["billable_metric"]["name"] == "All tokens"


async def test_the_first_rate_and_a_change_of_the_metric_at_once(world: World) -> None:
    """Whoever comes first: never a rate of a metric that cannot be paid for."""
    await a_system(world)
    for n in range(5):
        await world.a_metric(code=f"m{n}")
        path = f"/core/api/v1/billable_metrics/m{n}"
        changed, rated = await asyncio.gather(
            world.call("PUT", path, {"billable_metric": {"aggregation_type": "max_agg"}}),
            rate(world, f"m{n}"),
        )
        assert sorted([changed.status, rated.status]) == [200, 422]


async def test_rates_set_at_once(world: World) -> None:
    """Ten changes together: one holds, and no two did at any time."""
    await a_system(world)
    await world.a_metric()
    answers = await asyncio.gather(*(rate(world, credit_amount=n + 1) for n in range(10)))
    assert {answer.status for answer in answers} == {200}
    rows = await world.fetch("select effective_to from credit_rates where org_id = $1")
    assert len(rows) == 10
    assert sum(row["effective_to"] is None for row in rows) == 1


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("delete from credit_rates where org_id = $1", asyncpg.RestrictViolationError),
        ("update credit_rates set credit_amount = 9 where org_id = $1", asyncpg.RestrictViolationError),
        (
            "update credit_rates set effective_to = null where org_id = $1 and effective_to is not null",
            asyncpg.RestrictViolationError,
        ),
        (
            """insert into credit_rates select org_id, gen_random_uuid(), credit_system_id, metric_id, 1, 1,
               effective_from + interval '1 hour', null, created_at from credit_rates
               where org_id = $1 and effective_to is null""",
            asyncpg.ExclusionViolationError,
        ),
        (
            "update credit_rates set effective_to = '2000-01-01' where org_id = $1",
            asyncpg.CheckViolationError,
        ),
    ],
)
async def test_the_database_keeps_rates_apart_and_as_they_were(
    world: World, sql: str, fault: type[Exception]
) -> None:
    await a_system(world)
    await world.a_metric()
    await world.at("2026-01-01")
    await rate(world)
    await world.at("2026-02-01")
    await rate(world, credit_amount=3)
    with pytest.raises(fault):
        await world.fetch(sql)


async def test_which_rate_a_usage_pays(world: World) -> None:
    """The system named; else the one active system that rates the metric; 422 where several do."""
    await a_system(world)
    await world.a_metric()
    await world.at("2026-01-01")
    await rate(world)
    await world.at("2026-02-01")
    await rate(world, credit_amount=3)
    [row] = await world.fetch("select id from billable_metrics where org_id = $1 and code = 'tokens'")

    async def found(system: str | None, at: str) -> str | None:
        async with world.database.connection() as tx:
            rate = await find_rate(tx, world.org_id, system, row["id"], instant(at))
        return rate and f"{rate.credit_system}: {rate.credit_amount.normalize()}"

    assert await found(None, "2026-01-31T23:59:59Z") == "gpu: 2"
    assert await found(None, "2026-02-01") == "gpu: 3"
    assert await found("gpu", "2026-01-01") == "gpu: 2"
    assert await found(None, "2025-12-31") is None
    assert await found("credits", "2026-02-01") is None
    await rate(world, system="credits", credit_amount=7)
    assert await found("credits", "2026-02-01") == "credits: 7"
    with pytest.raises(RuleBroken) as caught:
        await found(None, "2026-02-01")
    assert caught.value.code == "credit_system_ambiguous"
    await world.at("2026-03-01").call("DELETE", f"{PATH}/gpu")
    assert await found(None, "2026-03-01") == "credits: 7"
    assert await found("gpu", "2026-03-01") is None
