"""`POST /entitlements/snapshots`: the token says what `can` says, and what a replica may give away is held in advance."""

import asyncio
import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.entitlements import signing, signing_key_store
from nozle_server.entitlements.signed_snapshot import Answer, SignedSnapshot, SnapshotRefused, decide, read
from nozle_server.infra.retention import prune
from world import World, audit

pytestmark = pytest.mark.database

TARGET = "/api/v1/entitlements/snapshots"
STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.02"}}


async def _a_subscriber(world: World, *, credits: object = 100) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_feature()
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(charges=[STANDARD], entitlements={"chat": {"limit": 10, "min_margin_percent": 5}})
    await world.a_customer()
    await world.subscribe("acme", "pro")
    if credits:
        await world.grant("acme", credits)


def up_to(credits: object) -> dict[str, Any]:
    return {"on_stale": {"open_up_to": credits}}


async def _snapshot(world: World, customer: str = "acme", *, key: str | None = None, **more: object) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await world.post(TARGET, {"customer_id": customer, "replica_id": "web-1", **more}, **headers)


async def _keys(world: World, path: str = "/api/v1/entitlements/keys") -> dict[str, str]:
    answer = await world.client.send("GET", path, key=None)
    assert answer.status == 200
    return {one["kid"]: one["x"] for one in answer.json["keys"]}


async def _read(world: World, made: Any, **changed: Any) -> SignedSnapshot:
    """As an SDK does, by the published keys."""
    wanted = {"organization": world.org_id, "customer": "acme", "replica": "web-1", **changed}
    return read(made["token"], await _keys(world), **wanted, now=datetime.now(UTC))


async def _holds(world: World, status: str = "open") -> list[tuple[str, Decimal]]:
    found = await world.get("/api/v1/credits/acme/holds", status=status)
    return sorted((one["feature"], Decimal(one["held"])) for one in found["holds"])


async def test_the_token_says_what_can_says(world: World) -> None:
    await _a_subscriber(world)
    await world.use("acme", 4)
    snapshot = await _read(world, await _snapshot(world))
    for code in ("chat", "sso", "tokens", "unheard-of"):
        decided = await world.can("acme", code)
        claims = snapshot.features.get(code, snapshot.unlisted)
        assert (claims.allowed, claims.reason) == (decided["allowed"], decided["reason"])
        assert (claims.used, claims.limit, claims.remaining, claims.overage) == (
            *(decided["used"], decided["limit"], decided["remaining"]),
            decided["overage"],
        )
    assert set(snapshot.features) == {"chat", "tokens"}
    assert [one.plan_code for one in snapshot.subscriptions] == ["pro"]


async def test_it_never_tells_of_cost_revenue_or_margin(world: World) -> None:
    await _a_subscriber(world)
    await world.a_cost_model(cost_per_unit_cents=1)
    made = await _snapshot(world)
    payload = made["token"].split(".")[1]
    claims = urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    assert json.loads(claims)["features"]["chat"]["privileges"] == {"limit": 10}
    assert not [word for word in ("cost", "revenue", "margin") if word in claims]


async def test_how_long_it_is_trusted(world: World) -> None:
    await _a_subscriber(world)
    before = datetime.now(UTC).replace(microsecond=0)
    made = await _snapshot(world)
    snapshot = await _read(world, made)
    assert before <= snapshot.issued_at <= datetime.now(UTC)
    assert snapshot.trusted_until - snapshot.issued_at == timedelta(seconds=60)
    assert snapshot.over_at - snapshot.trusted_until == timedelta(seconds=600)
    told = [datetime.fromisoformat(made[name]) for name in ("issued_at", "expires_at", "stale_until")]
    assert told == [snapshot.issued_at, snapshot.trusted_until, snapshot.over_at]
    shorter = await _read(world, await _snapshot(world, trust_seconds=5, stale_seconds=0))
    assert shorter.over_at - shorter.issued_at == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"trust_seconds": 0}, "trust_seconds"),
        ({"trust_seconds": 301}, "trust_seconds"),
        ({"stale_seconds": 86_401}, "stale_seconds"),
        ({"replica_id": " "}, "replica_id"),
        ({"features": {"chat": {"on_stale": "ajar"}}}, "on_stale"),
        ({"features": {"chat": up_to(0)}}, "open_up_to"),
        ({"features": {"chat": up_to("1e3")}}, "open_up_to"),
        ({"features": {"\x07": {"on_stale": "open"}}}, "features"),
        ({"spent": {"chat": 1}}, "previous_snapshot_id"),
        ({"spent": {"chat": -1}, "previous_snapshot_id": "snap_" + "0" * 32}, "spent"),
        ({"previous_snapshot_id": "yesterday's"}, "previous_snapshot_id"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_holds_nothing(
    world: World, wrong: dict[str, Any], field: str
) -> None:
    await _a_subscriber(world)
    body = {"customer_id": "acme", "replica_id": "web-1", "features": {"sso": up_to(5)}, **wrong}
    answer = await world.call("POST", TARGET, body)
    assert answer.status == 400
    assert field in answer.json["error"]
    assert await _holds(world) == []


async def test_a_publishable_key_gets_none(world: World) -> None:
    await _a_subscriber(world)
    body = {"customer_id": "acme", "replica_id": "web-1"}
    answer = await world.call("POST", TARGET, body, key=world.publishable)
    assert (answer.status, answer.code) == (403, "secret_key_required")


async def test_an_unknown_customer_is_denied_everything(world: World) -> None:
    """As by `can`; and nothing can be held for it."""
    made = await _snapshot(world, "nobody", features={"chat": up_to(5)})
    snapshot = await _read(world, made, customer="nobody")
    verdict = decide(snapshot, "chat", snapshot.issued_at)
    assert (verdict.answer, verdict.reason) == (Answer.DENIED, "no_subscription")
    assert decide(snapshot, "chat", snapshot.trusted_until).answer is Answer.DENIED
    assert made["held"] == {}


async def test_a_snapshot_is_one_tenants(world: World, other_world: World) -> None:
    await _a_subscriber(world)
    await _a_subscriber(other_world)
    made = await _snapshot(world)
    with pytest.raises(SnapshotRefused):
        await _read(other_world, made)


async def test_a_policy_is_told_with_its_feature_whether_the_plan_has_it_or_not(world: World) -> None:
    await _a_subscriber(world)
    policies = {"chat": {"on_stale": "closed"}, "sso": {"on_stale": "open"}}
    snapshot = await _read(world, await _snapshot(world, features=policies))
    assert decide(snapshot, "sso", snapshot.issued_at).reason == "feature_not_in_plan"
    later = snapshot.trusted_until
    assert decide(snapshot, "sso", later).answer is Answer.ALLOWED
    assert decide(snapshot, "chat", later).answer is Answer.DENIED
    assert decide(snapshot, "tokens", later).answer is Answer.COULD_NOT_TELL


async def test_on_real_time_it_says_until_when_time_leaves_it_alone(live_world: World) -> None:
    """An organization on a test clock is told nothing: there time stands still until it is turned."""
    await live_world.a_metric()
    await live_world.a_feature()
    await live_world.a_plan(entitlements={"chat": {"limit": 10}})
    await live_world.a_customer()
    await live_world.subscribe("acme", "pro")
    snapshot = await _read(live_world, await _snapshot(live_world))
    listed = await live_world.get("/api/v1/entitlements", customer_id="acme")
    [chat] = listed["entitlements"]
    assert snapshot.features["chat"].valid_until == datetime.fromisoformat(chat["valid_until"])


async def test_what_a_margin_policy_decided_is_no_older_than_it_allows(world: World) -> None:
    """A policy that denies, and is judged by figures of at most 20 seconds."""
    await _a_subscriber(world)
    await world.a_cost_model(cost_per_unit_cents=1)
    await world.a_margin_policy(
        "customer/acme", min_margin_percent=5, mode="deny", maximum_snapshot_age_seconds=20
    )
    snapshot = await _read(world, await _snapshot(world))
    ends = snapshot.features["chat"].valid_until
    assert ends is not None
    assert timedelta(seconds=20) <= ends - snapshot.issued_at <= timedelta(seconds=21)
    assert decide(snapshot, "chat", ends).answer is Answer.COULD_NOT_TELL


async def test_on_a_test_clock_a_snapshot_tells_nothing_of_time(world: World) -> None:
    await _a_subscriber(world)
    snapshot = await _read(world, await _snapshot(world))
    assert {one.valid_until for one in snapshot.features.values()} == {None}


# What is held in advance.


async def test_what_may_be_given_away_is_taken_in_advance(world: World) -> None:
    await _a_subscriber(world)
    made = await _snapshot(world, features={"chat": up_to("25"), "sso": up_to(5)})
    assert await world.balance("acme") == 70
    assert await _holds(world) == [("chat", 25), ("sso", 5)]
    snapshot = await _read(world, made)
    policy = snapshot.features["chat"].on_stale
    assert policy is not None
    assert (policy.policy, policy.credits, policy.hold_id) == (
        "open_up_to",
        25,
        made["held"]["chat"]["hold_id"],
    )
    later = snapshot.trusted_until
    assert decide(snapshot, "chat", later, given=Decimal(24)).answer is Answer.ALLOWED
    assert decide(snapshot, "chat", later, given=Decimal(25)).answer is Answer.DENIED
    await audit(world)


async def test_what_is_held_outlasts_every_use_of_the_token_and_then_ends(live_world: World) -> None:
    world = live_world
    await world.a_customer()
    await world.grant("acme", 10)
    made = await _snapshot(world, features={"chat": up_to(5)}, trust_seconds=60, stale_seconds=600)
    ends = datetime.fromisoformat(made["held"]["chat"]["expires_at"])
    over = datetime.fromisoformat(made["stale_until"])
    assert over + timedelta(minutes=1) <= ends <= over + timedelta(minutes=15)


async def test_what_is_not_there_is_not_promised(world: World) -> None:
    """Less credits than asked for: the token says how many are held. None: closed."""
    await _a_subscriber(world, credits=8)
    snapshot = await _read(world, await _snapshot(world, features={"chat": up_to(25), "sso": up_to(5)}))
    chat, sso = snapshot.features["chat"].on_stale, snapshot.features["sso"].on_stale
    assert chat is not None
    assert sso is not None
    assert (chat.policy, chat.credits) == ("open_up_to", 8)
    assert (sso.policy, sso.credits, sso.hold_id) == ("closed", None, None)
    assert await world.balance("acme") == 0
    assert await world.deduct("acme", 1) == (False, 0)
    await audit(world)


async def test_who_never_had_credits_has_none_held(world: World) -> None:
    await _a_subscriber(world, credits=0)
    snapshot = await _read(world, await _snapshot(world, features={"chat": up_to(25)}))
    assert decide(snapshot, "chat", snapshot.trusted_until).reason == "stale_closed"


async def test_a_budget_bounds_what_is_held(world: World) -> None:
    await _a_subscriber(world)
    await world.call("PUT", "/api/v1/customers/acme/budgets/month", {"limit": 10})
    await world.call("PUT", "/api/v1/customers/acme/budgets/day", {"limit": 20})
    made = await _snapshot(world, features={"chat": up_to(25), "sso": up_to(5)})
    assert {code: one["credits"] for code, one in made["held"].items()} == {"chat": 10}
    assert await world.balance("acme") == 90
    await audit(world)


async def test_asking_again_renews_and_never_holds_twice(world: World) -> None:
    """While it lasts long enough and nothing was spent, the hold stays: the ledger is not written."""
    await _a_subscriber(world)
    first = await _snapshot(world, features={"chat": up_to(25)})
    written = await world.transactions("acme")
    again = await _snapshot(world, features={"chat": up_to(25)}, previous_snapshot_id=first["snapshot_id"])
    assert again["held"] == first["held"]
    assert await world.transactions("acme") == written
    await world.turn("2026-01-01T00:13:00Z")
    later = await _snapshot(world, features={"chat": up_to(25)}, previous_snapshot_id=again["snapshot_id"])
    assert later["held"]["chat"]["hold_id"] != first["held"]["chat"]["hold_id"]
    smaller = await _snapshot(world, features={"chat": up_to(10)})
    assert await _holds(world) == [("chat", 10)]
    assert await world.balance("acme") == 90
    assert smaller["settled"] == {}
    await _snapshot(world, features={})
    assert await _holds(world) == []
    assert await world.balance("acme") == 100
    await audit(world)


async def test_two_replicas_hold_apart(world: World) -> None:
    await _a_subscriber(world)
    await _snapshot(world, features={"chat": up_to(25)})
    await _snapshot(world, features={"chat": up_to(30)}, replica_id="web-2")
    assert await _holds(world) == [("chat", 25), ("chat", 30)]


async def test_what_was_given_away_is_settled_and_the_rest_goes_back(world: World) -> None:
    await _a_subscriber(world)
    first = await _snapshot(world, features={"chat": up_to(25), "sso": up_to(5)})
    report = {"previous_snapshot_id": first["snapshot_id"], "spent": {"chat": "3.5"}}
    second = await _snapshot(world, features={"chat": up_to(25)}, **report)
    assert second["settled"] == {"chat": {"settled": Decimal("3.5"), "uncovered": 0}}
    assert await _holds(world) == [("chat", 25), ("sso", 5)]
    third = {"features": {"chat": up_to(25)}, "previous_snapshot_id": second["snapshot_id"]}
    assert (await _snapshot(world, **third))["settled"] == {}
    assert await _holds(world) == [("chat", 25)]
    assert await world.balance("acme") == Decimal("71.5")
    await audit(world)


async def test_a_report_is_taken_once_with_a_key_and_without(world: World) -> None:
    """The answer was lost, and the replica asks again: with its key it is the same answer; without, what it spent of
    the older snapshot is known."""
    await _a_subscriber(world)
    first = await _snapshot(world, features={"chat": up_to(25)})
    more = {
        "features": {"chat": up_to(25)},
        "previous_snapshot_id": first["snapshot_id"],
        "spent": {"chat": 3},
    }
    second = await _snapshot(world, key="once", **more)
    assert await _snapshot(world, key="once", **more) == second
    third = await _snapshot(world, **more)
    assert third["settled"] == {}
    assert await world.balance("acme") == 72
    assert await _holds(world) == [("chat", 25)]
    await audit(world)


async def test_what_was_given_away_after_an_answer_was_lost_is_taken_too(world: World) -> None:
    """The replica asked, and was cut off before the answer came: it goes on by the snapshot it has, and reports all that
    it gave away under it. Only what is more than it said before is taken; what it may have promised was held throughout."""
    await _a_subscriber(world, credits=25)
    first = await _snapshot(world, features={"chat": up_to(25)})
    under_first = {"features": {"chat": up_to(25)}, "previous_snapshot_id": first["snapshot_id"]}
    await _snapshot(world, **under_first, spent={"chat": 3})
    assert await world.deduct("acme", 1) == (False, 0)
    lost_again = await _snapshot(world, **under_first, spent={"chat": 10})
    assert lost_again["settled"] == {"chat": {"settled": 7, "uncovered": 0}}
    last = await _snapshot(world, **under_first, spent={"chat": 25})
    assert (last["settled"], last["held"]) == ({"chat": {"settled": 15, "uncovered": 0}}, {})
    assert await world.balance("acme") == 0
    await audit(world)


async def test_a_report_on_a_snapshot_of_long_ago_is_nothing_new(world: World) -> None:
    await _a_subscriber(world)
    first = await _snapshot(world, features={"chat": up_to(25)})
    second = await _snapshot(world, features={"chat": up_to(25)}, previous_snapshot_id=first["snapshot_id"])
    third = await _snapshot(world, features={"chat": up_to(25)}, previous_snapshot_id=second["snapshot_id"])
    old = {"previous_snapshot_id": first["snapshot_id"], "spent": {"chat": 5}}
    assert (await _snapshot(world, features={"chat": up_to(25)}, **old))["settled"] == {}
    assert third["held"] != {}
    assert await world.balance("acme") == 75


async def test_a_promise_that_shrinks_is_held_until_the_replica_has_the_smaller_one(world: World) -> None:
    """The answer with the smaller promise is lost: the replica goes on by the larger one, and all of that is there."""
    await _a_subscriber(world, credits=30)
    first = await _snapshot(world, features={"chat": up_to(20), "sso": up_to(10)})
    under_first = {"previous_snapshot_id": first["snapshot_id"]}
    lost = await _snapshot(world, features={"chat": up_to(5)}, **under_first)
    assert {code: one["credits"] for code, one in lost["held"].items()} == {"chat": 5}
    told = (await _read(world, lost)).features
    assert told["chat"].on_stale is not None
    assert told["chat"].on_stale.credits == 5
    assert "sso" not in told
    assert await world.deduct("acme", 1) == (False, 0)
    spent = {"chat": 20, "sso": 10}
    after = await _snapshot(world, features={"chat": up_to(5)}, **under_first, spent=spent)
    assert after["settled"] == {code: {"settled": n, "uncovered": 0} for code, n in spent.items()}
    assert await _holds(world) == []
    await audit(world)


async def test_what_is_promised_no_more_goes_back_with_the_call_that_says_so(world: World) -> None:
    await _a_subscriber(world)
    first = await _snapshot(world, features={"chat": up_to(20), "sso": up_to(10)})
    second = await _snapshot(
        world, features={"chat": up_to(5)}, previous_snapshot_id=first["snapshot_id"], spent={"chat": 2}
    )
    assert await _holds(world) == [("chat", 18), ("sso", 10)]
    third = await _snapshot(world, features={"chat": up_to(5)}, previous_snapshot_id=second["snapshot_id"])
    assert await _holds(world) == [("chat", 5)]
    written = await world.transactions("acme")
    await _snapshot(world, features={"chat": up_to(5)}, previous_snapshot_id=third["snapshot_id"])
    assert await world.transactions("acme") == written
    assert await world.balance("acme") == 93
    await audit(world)


async def test_what_nobody_says_they_have_is_over_when_its_token_is(world: World) -> None:
    """A feature that is not asked for keeps its hold while an older token may be used, and no longer."""
    await _a_subscriber(world)
    first = await _snapshot(world, features={"sso": up_to(10)}, stale_seconds=86_400)
    await _snapshot(world, previous_snapshot_id=first["snapshot_id"], spent={"sso": 1}, trust_seconds=1)
    await world.turn("2026-01-02")
    assert await _holds(world) == [("sso", 9)]
    await world.turn("2026-01-04")
    assert await world.balance("acme") == 99
    await audit(world)


async def test_one_promise_never_grows_on_anothers(world: World) -> None:
    """All that there is is held; one feature wants more just when the other's hold is renewed, and the answer is lost."""
    await _a_subscriber(world, credits=20)
    first = await _snapshot(world, features={"chat": up_to(10), "sso": up_to(10)})
    await world.turn("2026-01-01T00:13:00Z")
    under_first = {"previous_snapshot_id": first["snapshot_id"]}
    lost = await _snapshot(world, features={"chat": up_to(20), "sso": up_to(10)}, **under_first)
    assert {code: one["credits"] for code, one in lost["held"].items()} == {"chat": 10, "sso": 10}
    spent = {"chat": 10, "sso": 10}
    after = await _snapshot(world, features={}, **under_first, spent=spent)
    assert after["settled"] == {code: {"settled": 10, "uncovered": 0} for code in spent}
    await audit(world)


async def test_replicas_leave_each_others_promises_alone(world: World) -> None:
    await _a_subscriber(world, credits=20)
    first = await _snapshot(world, features={"chat": up_to(10)})
    other = await _snapshot(world, features={"chat": up_to(10)}, replica_id="web-2")
    under_first = {"previous_snapshot_id": first["snapshot_id"]}
    await _snapshot(world, features={}, **under_first)
    more = await _snapshot(
        world,
        features={"chat": up_to(20)},
        replica_id="web-2",
        previous_snapshot_id=other["snapshot_id"],
        spent={"chat": 4},
    )
    assert more["held"]["chat"]["credits"] == 6
    late = await _snapshot(world, features={}, **under_first, spent={"chat": 10})
    assert late["settled"] == {"chat": {"settled": 10, "uncovered": 0}}
    assert await _holds(world) == [("chat", 6)]
    await audit(world)


async def test_a_feature_that_moves_to_another_credit_system_keeps_its_promise_meanwhile(
    world: World,
) -> None:
    await _a_subscriber(world, credits=10)
    first = await _snapshot(world, features={"paint": up_to(10)})
    system = {"code": "images", "name": "Images", "features": ["paint"]}
    await world.post("/core/api/v1/credit-systems", {"credit_system": system})
    await world.grant("acme", 4, credit_system="images")
    wanted = {"features": {"paint": up_to(10)}}
    second = await _snapshot(world, **wanted, previous_snapshot_id=first["snapshot_id"])
    assert (second["held"], await _holds(world)) == ({}, [("paint", 10)])
    third = await _snapshot(world, **wanted, previous_snapshot_id=second["snapshot_id"])
    assert third["held"]["paint"]["credits"] == 4
    assert await world.balance("acme") == 10
    await audit(world)


async def test_more_than_was_held_is_taken_of_the_balance_and_not_below_zero(world: World) -> None:
    await _a_subscriber(world, credits=30)
    first = await _snapshot(world, features={"chat": up_to(25)})
    report = {"previous_snapshot_id": first["snapshot_id"], "spent": {"chat": 40}}
    second = await _snapshot(world, features={"chat": up_to(25)}, **report)
    assert second["settled"] == {"chat": {"settled": 30, "uncovered": 10}}
    assert (second["held"], await world.balance("acme")) == ({}, 0)
    await audit(world)


async def test_who_was_cut_off_until_the_hold_was_over_reports_late(world: World) -> None:
    """The hold has gone back by itself; what was given away is taken of what is there."""
    await _a_subscriber(world, credits=30)
    first = await _snapshot(world, features={"chat": up_to(25)})
    await world.turn("2026-01-02")
    assert await world.balance("acme") == 30
    report = {"previous_snapshot_id": first["snapshot_id"], "spent": {"chat": 4}}
    second = await _snapshot(world, features={}, **report)
    assert second["settled"] == {"chat": {"settled": 4, "uncovered": 0}}
    assert await world.balance("acme") == 26
    again = await _snapshot(world, features={}, **report)
    assert again["settled"] == {}
    await audit(world)


async def test_a_feature_of_another_credit_system_is_held_there(world: World) -> None:
    await _a_subscriber(world)
    system = {"code": "images", "name": "Images", "features": ["paint"]}
    await world.post("/core/api/v1/credit-systems", {"credit_system": system})
    await world.grant("acme", 4, credit_system="images")
    made = await _snapshot(world, features={"chat": up_to(25), "paint": up_to(9)})
    assert {code: one["credits"] for code, one in made["held"].items()} == {"chat": 25, "paint": 4}
    assert await world.balance("acme") == 75


async def test_many_at_once_hold_once(world: World) -> None:
    """Twenty calls of one replica and of twenty others, over one account: each replica has one hold, and all of them
    together with the balance are what was granted."""
    await _a_subscriber(world)
    names = ["web-1"] * 20 + [f"web-{n}" for n in range(2, 22)]
    await asyncio.gather(*(_snapshot(world, features={"chat": up_to(7)}, replica_id=name) for name in names))
    held = [amount for _, amount in await _holds(world)]
    assert sum(held) + await world.balance("acme") == 100
    assert sorted(held) == [2, *[7] * 14]
    rows = await world.fetch("select replica_id from replica_holds where org_id = $1")
    assert len(rows) == len(set(rows)) == 15
    await audit(world)


async def test_what_nobody_came_back_for_is_forgotten_when_its_hold_is_over(world: World) -> None:
    await _a_subscriber(world)
    await _snapshot(world, features={"chat": up_to(7)})
    later = datetime.now(UTC) + timedelta(days=8)
    await prune(world.database, later)
    assert len(await world.fetch("select from replica_holds where org_id = $1")) == 1
    await world.turn("2026-01-02")
    await prune(world.database, later)
    assert await world.fetch("select from replica_holds where org_id = $1") == []


# The keys.


async def test_the_keys_are_published_to_everybody_at_two_places(world: World) -> None:
    await _snapshot(world)
    assert await _keys(world) == await _keys(world, "/.well-known/jwks.json")
    answer = await world.client.send("GET", "/api/v1/entitlements/keys", key=None)
    assert answer.headers["cache-control"] == "public, max-age=300"
    for one in answer.json["keys"]:
        assert set(one) == {"kty", "crv", "x", "kid", "alg", "use"}
        assert (one["kty"], one["crv"], one["alg"]) == ("OKP", "Ed25519", "EdDSA")


async def test_keys_come_and_go_without_anybody_noticing(world: World) -> None:
    """A new key is published before it signs; what the old one signed is read until it is over."""
    made = await _snapshot(world)
    now = datetime.now(UTC)
    async with world.database.transaction() as tx:
        old = await signing.current_key(tx, now)
        await signing.rotate(tx, now)
        assert (await signing.current_key(tx, now)).id == old.id
        new = await signing.current_key(tx, now + timedelta(minutes=10))
        assert new.id != old.id
        published = await signing.published_keys(tx, now + timedelta(days=1))
        assert {old.id, new.id} <= {one.id for one in published}
        published = await signing.published_keys(tx, now + timedelta(days=2))
        assert old.id not in {one.id for one in published}
    await _read(world, made)


async def test_a_key_that_others_know_is_gone_at_once(world: World) -> None:
    made = await _snapshot(world)
    async with world.database.transaction() as tx:
        await signing.rotate(tx, datetime.now(UTC), at_once=True)
    with pytest.raises(SnapshotRefused):
        await _read(world, made)
    await _read(world, await _snapshot(world))


async def test_of_two_that_make_a_key_one_is_first(world: World) -> None:
    async def make() -> None:
        async with world.database.transaction() as tx:
            await signing_key_store.add_key(tx, 1000, datetime.now(UTC))

    await asyncio.gather(*(make() for _ in range(5)))
    async with world.database.transaction() as tx:
        keys = await signing_key_store.read_keys(tx)
        assert [one.number for one in keys].count(1000) == 1
        await signing_key_store.delete_keys(tx, [1000])
