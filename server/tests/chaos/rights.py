"""What the customer acme may do with the feature `chat`, and somebody who changes that in every way there is."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chaos.clients import Client

CHAT = "/core/api/v1/plans/{}/entitlements"
PLANS = {"basic": "0.02", "pro": "0.03"}
"""And what a token costs the customer, in dollars."""


@dataclass(frozen=True)
class Own:
    """What is acme's own."""

    plan: str | None
    limit: int | None = None
    used: int = 0


@dataclass(frozen=True)
class Catalog:
    """What is everybody's. A plan whose limit is None has not got the feature."""

    limits: Mapping[str, int | None]
    cost: int = 1


def shows(truth: tuple[Any, ...]) -> object:
    """What `look` finds in the answer when `Own` and `Catalog` are these."""
    own: Own
    catalog: Catalog
    own, catalog = truth
    if own.plan is None:
        return (False, "subscription_cancelled", 0, None, 0, 0)
    limit = own.limit or catalog.limits[own.plan]
    if limit is None:
        return (False, "feature_not_in_plan", 0, None, 0, 0)
    price = int(PLANS[own.plan].removeprefix("0.0"))
    return (own.used < limit, "within_limit", own.used, limit, price, catalog.cost)


def look(answer: Mapping[str, object]) -> tuple[object, ...]:
    """As `shows`."""
    prices = ("revenue_per_use_cents", "cost_per_use_cents")
    return tuple(answer[name] for name in ("allowed", "reason", "used", "limit", *prices))


class Moods:
    """Of a merchant, who changes what acme may do by way of one server at a time; knows what that makes true."""

    def __init__(self, client: Client, rng: random.Random) -> None:
        self.client, self.rng = client, rng
        self.numbers = itertools.count(1000)
        self.own, self.catalog = Own("basic"), Catalog(dict.fromkeys(PLANS, 100))
        self.subscription: str | None = None

    async def begin(self) -> None:
        """The catalog, and acme on the first plan."""
        metric = {"code": "tokens", "name": "Tokens", "aggregation_type": "sum_agg", "field_name": "n"}
        await self.client.post("/core/api/v1/billable_metrics", {"billable_metric": metric})
        feature = {"code": "chat", "name": "Chat", "billable_metric_code": "tokens"}
        await self.client.post("/core/api/v1/features", {"feature": feature})
        for code, price in PLANS.items():
            charge = {
                "billable_metric_code": "tokens",
                "charge_model": "standard",
                "properties": {"amount": price},
            }
            plan = {"code": code, "name": code, "interval": "monthly", "amount_cents": 0, "charges": [charge]}
            await self.client.post("/core/api/v1/plans", {"plan": plan})
            await self.client.post(CHAT.format(code), {"entitlements": {"chat": {"limit": 100}}})
        await self.client.a_customer("acme")
        await self._subscribe("basic")
        await self._cost(1)

    @property
    def truth(self) -> tuple[Own, Catalog]:
        return self.own, self.catalog

    async def change(self, url: str) -> None:
        """One thing, drawn at random among those that can change now."""
        deeds = [self.change_plan, self.cancel, self.set_limit, self.override, self.set_cost, self.use]
        if self.own.plan is None:
            deeds = [self.subscribe, self.subscribe, self.set_limit]
        await self.rng.choice(deeds)(url)

    async def change_plan(self, url: str) -> None:
        other = self.rng.choice([plan for plan in PLANS if plan != self.own.plan])
        body = {"customer_id": "acme", "plan_code": other}
        await self.client.post("/api/v1/billing/upgrade", body, at=url)
        self.own = replace(self.own, plan=other, limit=None)

    async def cancel(self, url: str) -> None:
        target = f"/api/v1/subscriptions/{self.subscription}?cancellation_policy=immediate"
        await self.client.must("DELETE", target, None, at=url)
        self.own = Own(None)

    async def subscribe(self, url: str) -> None:
        plan = self.rng.choice(list(PLANS))
        await self._subscribe(plan, url)
        self.own = Own(plan)

    async def set_limit(self, url: str) -> None:
        """Of a plan; sometimes the feature is off altogether."""
        plan = self.rng.choice(list(PLANS))
        limit = None if self.rng.random() < 0.3 else next(self.numbers)
        wanted: object = False if limit is None else {"limit": limit}
        await self.client.must("PATCH", CHAT.format(plan), {"entitlements": {"chat": wanted}}, at=url)
        self.catalog = replace(self.catalog, limits={**self.catalog.limits, plan: limit})

    async def override(self, url: str) -> None:
        limit = next(self.numbers)
        target = f"/core/api/v1/subscriptions/{self.subscription}/entitlements"
        await self.client.must("PATCH", target, {"entitlements": {"chat": {"limit": limit}}}, at=url)
        self.own = replace(self.own, limit=limit)

    async def set_cost(self, url: str) -> None:
        cost = next(self.numbers)
        await self._cost(cost, url)
        self.catalog = replace(self.catalog, cost=cost)

    async def use(self, url: str) -> None:
        event = {
            "transaction_id": f"use-{next(self.numbers)}",
            "customer_id": "acme",
            "metric_code": "tokens",
            "properties": {"n": 1},
        }
        await self.client.post("/api/v1/events", event, at=url)
        self.own = replace(self.own, used=self.own.used + 1)

    async def _subscribe(self, plan: str, url: str | None = None) -> None:
        made = await self.client.post("/api/v1/subscribe", {"customer_id": "acme", "plan_code": plan}, at=url)
        self.subscription = made["subscription_id"]

    async def _cost(self, cents: int, url: str | None = None) -> None:
        model = {"name": "cost", "metric_code": "tokens", "cost_per_unit_cents": cents}
        await self.client.post("/api/v1/cost-models", model, at=url)
