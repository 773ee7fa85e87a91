"""`GET /entitlements` and `can()` never disagree, whatever has happened, wherever and however they are asked.

A merchant does at random whatever may bear on it; after each deed both are asked about everything, by every way.
"""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from nozle_server.api.app import build_app
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.core.standing import FOR_NOW
from nozle_server.infra.settings import Settings
from world import Answer, Client, World, instant, rfc3339, with_query

pytestmark = pytest.mark.database

SEEDS = range(6)
DEEDS = 20
METRICS = ("tokens", "calls", "seats_used")
FEATURES = {"chat": "tokens", "search": "calls", "sso": None, "seats_used": None}
"""By code, with its metric; one is called as a metric is."""
PLANS = ("basic", "pro")
SUBSCRIPTIONS = ("first", "second", "third")
CODES = (*METRICS, *FEATURES, "nothing")
MOUNTS = ("/api/v1", "/engine/api/v1")

SHARED = (
    *("allowed", "reason", "used", "limit", "remaining", "overage"),
    *("cost_per_use_cents", "revenue_per_use_cents", "margin_per_use_cents"),
    *("min_margin_percent", "margin_percent", "margin_level", "margin_enforcement_mode", "warning", "policy"),
)
"""What both say of a feature. `economics` too, but for the instant at which they were calculated."""


class Merchant:
    """Does one thing at a time, drawn at random; a deed that is refused has changed nothing, and that is as good."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.now = instant("2026-01-01")
        self.number = 0
        self.made = ["first"]

    async def open(self) -> None:
        await self.world.turn("2026-01-01")
        for metric in METRICS:
            await self.world.a_metric(code=metric, filters=[{"key": "model", "values": ["big", "small"]}])
        for code, of in FEATURES.items():
            await self.world.a_feature(
                code=code, metric=of, privileges=[{"code": "max", "value_type": "integer"}]
            )
        for code in PLANS:
            charges = [self._charge(metric) for metric in METRICS if self.rng.random() < 0.6]
            await self.world.a_plan(code=code, charges=charges, entitlements=self._rights())
        await self.world.a_customer("acme", timezone="Asia/Kolkata")
        await self.world.assign("acme", self.rng.choice(PLANS), "first")

    async def deed(self) -> None:
        deeds: list[Callable[[], Awaitable[object]]] = [
            *(self.subscribe, self.subscribe, self.use, self.use, self.turn, self.turn),
            *(self.override, self.override, self.entitle, self.policy, self.cost),
            *(self.end, self.change_plan, self.rename, self.remove, self.settle_an_end),
        ]
        self.number += 1
        await self.rng.choice(deeds)()

    async def subscribe(self) -> None:
        wanted: dict[str, object] = {
            "external_customer_id": "acme",
            "plan_code": self.rng.choice(PLANS),
            "external_id": self.rng.choice(SUBSCRIPTIONS),
        }
        if self.rng.random() < 0.3:
            wanted["subscription_at"] = self._in(days=self.rng.randint(1, 20))
        if self.rng.random() < 0.3:
            wanted["ending_at"] = self._in(days=self.rng.randint(21, 60))
        await self._try("POST", "/core/api/v1/subscriptions", {"subscription": wanted})
        self.made.append(str(wanted["external_id"]))

    async def use(self) -> None:
        event = {
            "transaction_id": f"use-{self.number}",
            "external_subscription_id": self.rng.choice(self.made),
            "code": self.rng.choice(METRICS),
            "properties": {"n": self.rng.randint(1, 12), "model": self.rng.choice(("big", "small", "odd"))},
        }
        await self._try("POST", "/core/api/v1/events", {"event": event})

    async def turn(self) -> None:
        self.now += timedelta(days=self.rng.choice((0, 1, 9, 31)), hours=self.rng.randint(1, 20))
        await self.world.turn(self.now.isoformat())

    async def override(self) -> None:
        target = f"/core/api/v1/subscriptions/{self.rng.choice(self.made)}/entitlements"
        code = self.rng.choice(tuple(FEATURES))
        wanted = {code: self._right(code)}
        await self._try("PATCH", target, {"entitlements": wanted})

    async def entitle(self) -> None:
        target = f"/core/api/v1/plans/{self.rng.choice(PLANS)}/entitlements"
        await self._try("POST", target, {"entitlements": self._rights()})

    async def policy(self) -> None:
        whose = self.rng.choice(("organization", "plan/basic", "feature/chat", "customer/acme"))
        terms = {"mode": self.rng.choice(("observe", "warn", "deny")), "min_margin_percent": 40}
        await self._try("PUT", f"/api/v1/margin/policies/{whose}", terms)

    async def cost(self) -> None:
        metric, cents = self.rng.choice(METRICS), self.rng.randint(0, 3)
        model = {"name": f"cost {self.number}", "metric_code": metric, "cost_per_unit_cents": cents}
        await self._try("POST", "/api/v1/cost-models", model)

    async def end(self) -> None:
        await self._try("DELETE", f"/core/api/v1/subscriptions/{self.rng.choice(self.made)}")

    async def change_plan(self) -> None:
        await self._try(
            "POST",
            "/core/api/v1/subscriptions",
            {
                "subscription": {
                    "external_customer_id": "acme",
                    "external_id": self.rng.choice(self.made),
                    "plan_code": self.rng.choice(PLANS),
                }
            },
        )

    async def settle_an_end(self) -> None:
        change = {"ending_at": self._in(days=self.rng.randint(1, 20))}
        target = f"/core/api/v1/subscriptions/{self.rng.choice(self.made)}"
        await self._try("PUT", target, {"subscription": change})

    async def rename(self) -> None:
        named = {"name": f"name {self.number}"}
        target, body = self.rng.choice(
            [
                ("/core/api/v1/features/chat", {"feature": named}),
                ("/core/api/v1/billable_metrics/calls", {"billable_metric": named}),
                ("/core/api/v1/plans/pro", {"plan": {**named, "amount_cents": 0, "interval": "monthly"}}),
            ]
        )
        await self._try("PUT", target, body)

    async def remove(self) -> None:
        """Now and then, since nothing brings it back."""
        if self.rng.random() < 0.3:
            what = self.rng.choice(("features/search", "features/seats_used", "billable_metrics/calls"))
            await self._try("DELETE", f"/core/api/v1/{what}")

    async def _try(self, method: str, target: str, body: object = None) -> None:
        answer = await self.world.call(method, target, body)
        assert answer.status == 200 or 400 <= answer.status < 500, answer.body

    def _rights(self) -> dict[str, object]:
        return {code: self._right(code) or True for code in FEATURES if self.rng.random() < 0.6}

    def _right(self, code: str) -> object:
        rights: list[object] = [True, False, {"max": self.rng.randint(1, 9)}]
        if FEATURES[code] is not None:
            limit = {"limit": self.rng.randint(1, 20)}
            rights += [limit, {**limit, "overage": True, "min_margin_percent": 30}]
        return self.rng.choice(rights)

    def _charge(self, metric: str) -> dict[str, object]:
        charge: dict[str, object] = {"billable_metric_code": metric}
        first = {"from_value": 0, "to_value": 5, "per_unit_amount": "0.05", "flat_amount": "0"}
        rest = {"from_value": 6, "to_value": None, "per_unit_amount": "0.01", "flat_amount": "0"}
        ranges = {"graduated_ranges": [first, rest]}
        if self.rng.random() < 0.5:
            return {**charge, "charge_model": "standard", "properties": {"amount": "0.02"}}
        filters = [{"values": {"model": ["big"]}, "properties": ranges}]
        return {**charge, "charge_model": "graduated", "properties": ranges, "filters": filters}

    def _in(self, *, days: int) -> str:
        return rfc3339((self.now + timedelta(days=days)).isoformat())


@pytest.fixture
def elsewhere(world: World) -> Client:
    """A process that keeps nothing: the database answers each time."""
    services = build_services(world.database, Settings(), SystemClock())
    assert services.snapshots.peek(world.org_id, "acme") is None
    return Client(build_app(services))


def _without_instant(answer: dict[str, Any]) -> object:
    economics = answer.get("economics")
    return economics and {name: value for name, value in economics.items() if name != "calculated_at"}


async def _compare(world: World, elsewhere: Client) -> int:
    """Everything of one moment; how many features were listed."""
    listed = 0
    for mount in MOUNTS:
        for key in (world.secret, world.publishable):
            for of in (None, *SUBSCRIPTIONS, "unheard of"):
                query = (
                    {"customer_id": "acme"} if of is None else {"customer_id": "acme", "subscription_id": of}
                )
                target = with_query(f"{mount}/entitlements", query)
                answer = await world.call("GET", target, key=key)
                await _as_elsewhere(answer, elsewhere, target, key)
                features = {one["feature"]: one for one in answer.json["entitlements"]}
                listed += len(features)
                for code in CODES:
                    asked = with_query(f"{mount}/can", {**query, "feature": code})
                    can = (await world.call("GET", asked, key=key)).json
                    one = features.get(code)
                    if one is None:
                        shown = {name: can[name] for name in ("allowed", "reason")}
                        assert shown == answer.json["unlisted"], (asked, can)
                        continue
                    assert {name: one.get(name) for name in SHARED} == {
                        name: can.get(name) for name in SHARED
                    }, asked
                    assert _without_instant(one) == _without_instant(can), asked
                    assert (one["type"], one["privileges"]) == (can["feature_type"], can["configuration"]), (
                        asked
                    )
    return listed


async def _as_elsewhere(answer: Answer, elsewhere: Client, target: str, key: str) -> None:
    """The same bytes and the same tag from who keeps nothing, and a 304 from both."""
    other = await elsewhere.send("GET", target, key=key)
    assert (other.status, other.body) == (answer.status, answer.body)
    assert other.headers["etag"] == answer.headers["etag"]
    named = {"if-none-match": answer.headers["etag"]}
    again = await elsewhere.send("GET", target, key=key, headers=named)
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("seed", SEEDS)
async def test_it_says_of_everything_what_can_says(world: World, elsewhere: Client, seed: int) -> None:
    """In a process that keeps snapshots and in one that has none; for secret and publishable keys; over all subscriptions and
    over one; where one has to be named and where not."""
    merchant = Merchant(world, random.Random(seed))
    await merchant.open()
    listed = await _compare(world, elsewhere)
    for _ in range(DEEDS):
        await merchant.deed()
        listed += await _compare(world, elsewhere)
    assert world.services.snapshots.lease.until == FOR_NOW, "else nothing was kept"
    assert listed


async def test_what_is_kept_is_asked_of_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for an answer nor for a 304: the database may be gone."""
    merchant = Merchant(world, random.Random(1))
    await merchant.open()
    await world.assign("acme", "pro", "first")
    target = "/api/v1/entitlements?customer_id=acme"
    first = await world.call("GET", target)
    assert first.json["entitlements"]

    def gone(*_: object, **__: object) -> None:
        raise AssertionError("the database is asked")

    for name in ("connection", "transaction", "snapshot"):
        monkeypatch.setattr(world.database, name, gone)
    again = await world.call("GET", target)
    assert (again.status, again.body) == (200, first.body)
    known = await world.call("GET", target, headers={"if-none-match": first.headers["etag"]})
    assert (known.status, known.body) == (304, b"")


async def test_under_engine_one_of_several_subscriptions_has_to_be_named(world: World) -> None:
    """Decision 16. What is listed is what there is to choose from; what it allows, nobody can say yet."""
    merchant = Merchant(world, random.Random(2))
    await merchant.open()
    await world.a_plan(code="both", entitlements={"sso": {"max": 5}})
    await world.assign("acme", "both", "first")
    [alone] = (await world.get("/engine/api/v1/entitlements", customer_id="acme"))["entitlements"]
    assert (alone["reason"], alone["subscription_id"]) == ("feature_enabled", "first")
    await world.assign("acme", "both", "second")
    both = await world.get("/engine/api/v1/entitlements", customer_id="acme")
    [sso] = both["entitlements"]
    assert (sso["allowed"], sso["reason"], sso["privileges"]) == (False, "subscription_required", {})
    assert sso["subscription_id"] is sso["subscription_status"] is sso["plan_code"] is None
    assert both["unlisted"] == {"allowed": False, "reason": "subscription_required"}
    assert len(both["subscriptions"]) == 2
    [named] = (await world.get("/engine/api/v1/entitlements", customer_id="acme", subscription_id="second"))[
        "entitlements"
    ]
    assert (named["allowed"], named["subscription_id"]) == (True, "second")
    [seed] = (await world.get("/api/v1/entitlements", customer_id="acme"))["entitlements"]
    assert (seed["allowed"], seed["privileges"]) == (True, {"max": 5})
