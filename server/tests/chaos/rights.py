"""What the customer acme may do with the feature `chat`, and somebody who changes that in every way there is."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from chaos.clients import Client

CHAT = "/core/api/v1/plans/{}/entitlements"
PLANS = {"basic": "0.02", "pro": "0.03"}
"""And what a token costs the customer, in dollars."""


@dataclass(frozen=True)
class Rights:
    """What decides about acme and `chat`. `limits` None: the plan has not got the feature."""

    plan: str | None
    limits: Mapping[str, int | None]
    own_limit: int | None = None
    used: int = 0
    cost: int = 1

    @property
    def answer(self) -> tuple[object, ...]:
        if self.plan is None:
            return (False, "subscription_cancelled", 0, None, 0, 0)
        limit = self.own_limit or self.limits[self.plan]
        if limit is None:
            return (False, "feature_not_in_plan", 0, None, 0, 0)
        price = int(PLANS[self.plan].removeprefix("0.0"))
        return (self.used < limit, "within_limit", self.used, limit, price, self.cost)


def look(answer: Mapping[str, object]) -> tuple[object, ...]:
    """As `Rights.answer`."""
    prices = ("revenue_per_use_cents", "cost_per_use_cents")
    return tuple(answer[name] for name in ("allowed", "reason", "used", "limit", *prices))


class Moods:
    """Of a merchant, who changes what acme may do by way of one server at a time; knows what that makes true."""

    def __init__(self, client: Client, rng: random.Random) -> None:
        self.client, self.rng = client, rng
        self.numbers = itertools.count(1000)
        self.rights = Rights("basic", dict.fromkeys(PLANS, 100))
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

    async def change(self, url: str) -> Rights:
        """One thing, drawn at random among those that can change now; what is true then."""
        deeds = [self.change_plan, self.cancel, self.set_limit, self.override, self.set_cost, self.use]
        if self.rights.plan is None:
            deeds = [self.subscribe, self.subscribe, self.set_limit]
        self.rights = await self.rng.choice(deeds)(url)
        return self.rights

    async def change_plan(self, url: str) -> Rights:
        other = self.rng.choice([plan for plan in PLANS if plan != self.rights.plan])
        body = {"customer_id": "acme", "plan_code": other}
        await self.client.post("/api/v1/billing/upgrade", body, at=url)
        return replace(self.rights, plan=other, own_limit=None)

    async def cancel(self, url: str) -> Rights:
        target = f"/api/v1/subscriptions/{self.subscription}?cancellation_policy=immediate"
        await self.client.must("DELETE", target, None, at=url)
        return replace(self.rights, plan=None, own_limit=None, used=0)

    async def subscribe(self, url: str) -> Rights:
        plan = self.rng.choice(list(PLANS))
        await self._subscribe(plan, url)
        return replace(self.rights, plan=plan)

    async def set_limit(self, url: str) -> Rights:
        """Of a plan; sometimes the feature is off altogether."""
        plan = self.rng.choice(list(PLANS))
        limit = None if self.rng.random() < 0.3 else next(self.numbers)
        wanted: object = False if limit is None else {"limit": limit}
        await self.client.must("PATCH", CHAT.format(plan), {"entitlements": {"chat": wanted}}, at=url)
        return replace(self.rights, limits={**self.rights.limits, plan: limit})

    async def override(self, url: str) -> Rights:
        limit = next(self.numbers)
        target = f"/core/api/v1/subscriptions/{self.subscription}/entitlements"
        await self.client.must("PATCH", target, {"entitlements": {"chat": {"limit": limit}}}, at=url)
        return replace(self.rights, own_limit=limit)

    async def set_cost(self, url: str) -> Rights:
        cost = next(self.numbers)
        await self._cost(cost, url)
        return replace(self.rights, cost=cost)

    async def use(self, url: str) -> Rights:
        event = {
            "transaction_id": f"use-{next(self.numbers)}",
            "customer_id": "acme",
            "metric_code": "tokens",
            "properties": {"n": 1},
        }
        await self.client.post("/api/v1/events", event, at=url)
        return replace(self.rights, used=self.rights.used + 1)

    async def _subscribe(self, plan: str, url: str | None = None) -> None:
        made = await self.client.post("/api/v1/subscribe", {"customer_id": "acme", "plan_code": plan}, at=url)
        self.subscription = made["subscription_id"]

    async def _cost(self, cents: int, url: str | None = None) -> None:
        model = {"name": "cost", "metric_code": "tokens", "cost_per_unit_cents": cents}
        await self.client.post("/api/v1/cost-models", model, at=url)
