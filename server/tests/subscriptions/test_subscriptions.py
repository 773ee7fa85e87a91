"""Subscribing, where a customer stands, and Core's list as the SDKs call it."""

from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database


async def a_market(world: World) -> None:
    await world.turn("2026-01-15T10:30:00Z")
    await world.a_plan(amount_cents=4900)
    await world.a_plan(code="max", amount_cents=9900)
    await world.a_customer()


async def listed(world: World, query: str = "", mount: str = "/api/v1") -> list[dict[str, Any]]:
    found = await world.get(f"{mount}/subscriptions{query}")
    subscriptions = found["subscriptions"]
    assert isinstance(subscriptions, list)
    return subscriptions


# Subscribing.


async def test_the_same_plan_again_is_the_same_subscription(world: World) -> None:
    """Contract 1.11, Decision 16: nothing starts, is granted or invoiced a second time."""
    await a_market(world)
    await world.a_plan(code="adv", amount_cents=500, pay_in_advance=True, credits=10)
    first = await world.post("/api/v1/subscribe", {"customer_id": "acme", "plan_code": "adv"})
    assert first["status"] == "active"
    assert first["subscription_id"].startswith("sub_")
    await world.turn("2026-01-20")
    aliased = {"customerId": "acme", "planCode": "adv"}
    assert await world.post("/api/v1/subscribe", aliased) == first
    assert (
        await world.post("/engine/api/v1/subscribe", {"external_customer_id": "acme", "plan_id": "adv"})
        == first
    )
    assert await world.balance("acme") == 10
    assert len(await world.invoices("acme")) == 1
    assert len(await listed(world)) == 1
    await audit(world)


async def test_another_plan_is_a_conflict_until_the_first_has_ended(world: World) -> None:
    """Decision 16: 409 `subscription_exists` while one runs; afterwards the next plan starts."""
    await a_market(world)
    first = await world.subscribe("acme", "pro", ending_at="2026-02-01T00:00:00Z")
    body = {"customer_id": "acme", "plan_code": "max"}
    answer = await world.call("POST", "/api/v1/subscribe", body)
    assert (answer.status, answer.code) == (409, "subscription_exists")
    await world.turn("2026-02-01")
    second = (await world.post("/api/v1/subscribe", body))["subscription_id"]
    assert second != first
    assert [one["external_id"] for one in await listed(world)] == [second]
    await audit(world)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"customer_id": "nobody", "plan_code": "pro"}, 404, "customer_not_found"),
        ({"customer_id": "acme", "plan_code": "nothing"}, 404, "plan_not_found"),
        ({"plan_code": "pro"}, 400, None),
        ({"customer_id": "acme"}, 400, None),
        ({"customer_id": "", "plan_code": "pro"}, 400, None),
        ({"customer_id": "acme", "plan_code": ""}, 400, None),
        ({"customer_id": 7, "plan_code": "pro"}, 400, None),
        ({"customer_id": "acme", "plan_code": "pro", "billing_time": "weekly"}, 400, None),
        ({"customer_id": "acme", "plan_code": "pro", "ending_at": "2026-01-15T10:30:00Z"}, 400, None),
        ({"customer_id": "acme", "plan_code": "pro", "ending_at": "2025-01-01T00:00:00Z"}, 400, None),
        ({"customer_id": "acme", "plan_code": "pro", "ending_at": "soon"}, 400, None),
        ({"customer_id": "acme", "plan_code": "pro", "ending_at": True}, 400, None),
    ],
)
async def test_what_cannot_be_subscribed_is_refused(
    world: World, body: dict[str, Any], status: int, code: str | None
) -> None:
    """Contract 1.11: 400 for what is missing or malformed, 404 for what is unknown, and nothing starts."""
    await a_market(world)
    answer = await world.call("POST", "/api/v1/subscribe", body)
    assert answer.status == status, answer.body
    assert code is None or answer.code == code
    assert await listed(world) == []


async def test_subscribing_needs_a_secret_key_of_the_same_organization(
    world: World, other_world: World
) -> None:
    """Contract appendix B, B11: pk_ is a 403; another organization's customer and plan are a 404."""
    await a_market(world)
    body = {"customer_id": "acme", "plan_code": "pro"}
    assert (await world.call("POST", "/api/v1/subscribe", body, key=world.publishable)).status == 403
    answer = await other_world.call("POST", "/api/v1/subscribe", body)
    assert (answer.status, answer.code) == (404, "customer_not_found")
    more = {
        "status": "pending",
        "subscription_id": "sub_mine",
        "started_at": "2020-01-01T00:00:00Z",
        "org_id": "x",
    }
    made = await world.post("/api/v1/subscribe", {**body, **more})
    assert (made["status"], made["subscription_id"] == "sub_mine") == ("active", False)
    [shown] = await listed(world)
    assert shown["started_at"] == "2026-01-15T10:30:00Z"


@pytest.mark.parametrize(
    ("billing_time", "period_end"),
    [
        (None, "2026-02-15T00:00:00Z"),
        ("anniversary", "2026-02-15T00:00:00Z"),
        ("calendar", "2026-02-01T00:00:00Z"),
    ],
)
async def test_billing_time_decides_when_the_first_period_ends(
    world: World, billing_time: str | None, period_end: str
) -> None:
    """Decision 26: /subscribe is anniversary unless it says calendar; days are the customer's."""
    await a_market(world)
    more = {} if billing_time is None else {"billing_time": billing_time}
    await world.subscribe("acme", "pro", **more)
    status = await world.get("/api/v1/billing/status", customer_id="acme")
    assert status["current_period_start"] == "2026-01-15T10:30:00Z"
    assert status["current_period_end"] == status["next_billing_date"] == period_end
    [shown] = await listed(world)
    assert shown["billing_time"] == (billing_time or "anniversary")


async def test_ending_at_ends_the_subscription_by_itself(world: World) -> None:
    """It gives access up to that instant and not at it; the last invoice is for what was used till then."""
    await a_market(world)
    await world.a_feature(metric=None)
    await world.post("/core/api/v1/plans/pro/entitlements", {"entitlements": {"chat": True}})
    await world.subscribe("acme", "pro", ending_at="2026-01-25T10:30:00Z")
    status = await world.get("/api/v1/billing/status", customer_id="acme")
    assert status["ends_at"] == status["current_period_end"] == "2026-01-25T10:30:00Z"
    await world.turn("2026-01-25T10:29:59.999999Z")
    assert (await world.can("acme"))["allowed"] is True
    await world.turn("2026-01-25T10:30:00Z")
    assert (await world.can("acme"))["allowed"] is False
    ended = await world.get("/api/v1/billing/status", customer_id="acme")
    assert ended["status"] == "canceled"
    assert ended["subscription"]["status"] == "terminated"
    assert await listed(world) == []
    [shown] = await listed(world, "?status[]=terminated")
    assert shown["terminated_at"] == "2026-01-25T10:30:00Z"
    await world.turn("2026-06-01")
    assert len(await world.invoices("acme")) == 1
    await audit(world)


# Where a customer stands.


async def test_both_paths_tell_the_same_byte_by_byte(world: World) -> None:
    """Contract 1.12, appendix B: /billing/status and /subscriptions/current, with every name that a client reads."""
    await a_market(world)
    subscription = await world.subscribe("acme", "pro")
    answers = [
        await world.call("GET", f"{mount}{path}?{name}=acme", key=key)
        for mount in ("/api/v1", "/engine/api/v1")
        for path in ("/billing/status", "/subscriptions/current")
        for name in ("customer_id", "customerId", "external_customer_id")
        for key in (world.secret, world.publishable)
    ]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    body = answers[0].json
    assert body["subscription"] == {
        "id": subscription,
        "external_id": subscription,
        "status": "active",
        "plan_code": "pro",
        "started_at": "2026-01-15T10:30:00Z",
        "ending_at": None,
    }
    expected: dict[str, object] = {
        **dict.fromkeys(("id", "subscription_id"), subscription),
        **dict.fromkeys(("status", "subscription_status"), "active"),
        **dict.fromkeys(("plan", "plan_code", "plan_slug", "tier"), "pro"),
        **dict.fromkeys(("plan_name", "planName"), "Pro"),
        **dict.fromkeys(("ends_at", "trial_ends_at", "pending_plan"), None),
        "customer_id": "acme",
        "interval": "monthly",
        "amount_cents": 4900,
        "amount_currency": "USD",
        "cancel_at_period_end": False,
    }
    assert {name: body[name] for name in expected} == expected


async def test_a_customer_without_a_subscription_stands_nowhere(world: World) -> None:
    """Contract 1.12: 200 with `status: "none"` and the plan's fields null."""
    await a_market(world)
    body = await world.get("/api/v1/billing/status", customer_id="acme")
    assert (body["status"], body["subscription_status"], body["customer_id"]) == ("none", "none", "acme")
    for name in ("id", "plan", "planName", "interval", "amount_cents", "nextBillingDate", "subscription"):
        assert body[name] is None


@pytest.mark.parametrize("path", ["/billing/status", "/subscriptions/current"])
async def test_an_unknown_customer_is_a_404_and_none_at_all_a_400(
    world: World, other_world: World, path: str
) -> None:
    """Contract 1.12; another organization's customer is as unknown as nobody's."""
    await other_world.a_customer("theirs")
    for nobody in ("nobody", "theirs", "%00x"):
        answer = await world.call("GET", f"/api/v1{path}?customer_id={nobody}")
        assert answer.status == (400 if "%00" in nobody else 404)
        assert "%00" in nobody or answer.json == {"error": "customer not found", "code": "customer_not_found"}
    assert (await world.call("GET", f"/api/v1{path}")).status == 400
    assert (await world.call("GET", f"/api/v1{path}?customer_id=")).status == 400


# The list.


async def test_the_list_as_track_of_the_sdks_calls_it(world: World) -> None:
    """Contract 2.2: exactly one active subscription with its external id, whichever way the brackets are written."""
    await a_market(world)
    subscription = await world.subscribe("acme", "pro")
    await world.a_customer("other")
    await world.subscribe("other", "max")
    for mount in ("/api/v1", "/engine/api/v1", "/core/api/v1"):
        for status in ("status%5B%5D=active", "status[]=active", "status=active"):
            found = await listed(world, f"?external_customer_id=acme&{status}", mount)
            assert [one["external_id"] for one in found] == [subscription]
    [shown] = await listed(world, "?external_customer_id=acme")
    assert (shown["plan_code"], shown["external_customer_id"], shown["status"]) == ("pro", "acme", "active")
    assert shown["lago_id"] == shown["nozle_id"]
    assert shown["current_billing_period_ending_at"] == "2026-02-14T23:59:59Z"  # as Core shows it
    assert await listed(world, "?external_customer_id=nobody&status%5B%5D=active") == []


async def test_the_list_filters_and_pages(world: World) -> None:
    """Repeated `status[]`, `plan_code`, pages that join without gap or twin; active only unless asked."""
    await a_market(world)
    for n in range(5):
        await world.a_customer(f"c{n}")
        ending = {"ending_at": "2026-02-01T00:00:00Z"} if n < 2 else {}
        await world.subscribe(f"c{n}", "pro" if n % 2 else "max", **ending)
    await world.turn("2026-02-02")

    async def names(query: str) -> set[str]:
        return {one["external_customer_id"] for one in await listed(world, query)}

    assert await names("") == {"c2", "c3", "c4"}
    assert await names("?status%5B%5D=terminated") == {"c0", "c1"}
    assert await names("?status%5B%5D=terminated&status%5B%5D=active") == {f"c{n}" for n in range(5)}
    assert await names("?plan_code=max") == {"c2", "c4"}
    assert await names("?plan_code=max&status%5B%5D=terminated") == {"c0"}
    assert await names("?status%5B%5D=incomplete") == set()
    pages = [await world.get(f"/api/v1/subscriptions?per_page=2&page={page}") for page in (1, 2, 3)]
    assert [len(page["subscriptions"]) for page in pages] == [2, 1, 0]
    assert pages[0]["meta"] == {
        "current_page": 1,
        "next_page": 2,
        "prev_page": None,
        "total_pages": 2,
        "total_count": 3,
    }
    seen = [one["external_id"] for page in pages for one in page["subscriptions"]]
    assert len(set(seen)) == 3


@pytest.mark.parametrize("query", ["?status[]=nonsense", "?page=0", "?per_page=101", "?page=x", "?per_page="])
async def test_a_bad_filter_is_a_400_or_cores_422(world: World, query: str) -> None:
    assert (await world.call("GET", f"/api/v1/subscriptions{query}")).status == 400
    answer = await world.call("GET", f"/core/api/v1/subscriptions{query}")
    assert (answer.status, answer.code) == (422, "validation_errors")


async def test_the_list_is_for_secret_keys_and_their_own_organization(
    world: World, other_world: World
) -> None:
    await a_market(world)
    await world.subscribe("acme", "pro")
    assert await listed(other_world, "?external_customer_id=acme") == []
    answer = await world.call("GET", "/api/v1/subscriptions", key=world.publishable)
    assert answer.status == 403
