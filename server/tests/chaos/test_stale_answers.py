"""Group C of reliability.md: an answer of `can()` does not outlive what it was decided from, in whichever process."""

import asyncio
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from chaos.clients import Client
from chaos.scale import is_large, scaled
from chaos.views import OTHER_PROCESS_S, UNDER_LOAD, Book, Lags, until_all_know, watching

OTHERS_P99_S = 0.25
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
    """Changes what acme may do, by way of one server at a time, and knows what that makes true."""

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


async def test_c01_a_change_is_known_at_once_where_it_was_made_and_soon_everywhere(
    client: Client, urls: list[str], rng: random.Random
) -> None:
    """Changes of plan, cancellations, features switched off, limits, overrides, costs, uses; each by way of any server, while
    all are asked without pause."""
    moods = Moods(client, rng)
    await moods.begin()
    book = Book(moods.rights.answer)
    await until_all_know(book, client, urls, look, within_s=OTHER_PROCESS_S * UNDER_LOAD)
    async with watching(book, client, urls, look):
        for _ in range(scaled(40, at_1000=1000)):
            url = rng.choice(urls)
            async with book.deed(at=url) as deed:
                deed.makes((await moods.change(url)).answer)
            await asyncio.sleep(rng.choice([0, 0, 0.01, 0.05]))
        await asyncio.sleep(0.3)
    await until_all_know(book, client, urls, look, within_s=0.1)
    _check(book.lags(urls))


async def test_c05_a_denial_lives_no_longer_than_a_grant(
    client: Client, urls: list[str], rng: random.Random
) -> None:
    """A customer whom nobody knows, then one without a subscription, then one who has used up the limit, and gets more: all
    processes have said no, and all say yes as soon as they would have said no."""
    await Moods(client, rng).begin()
    grants, denials = Lags(0, [], 0), Lags(0, [], 0)
    for n in range(scaled(5, at_1000=250)):
        book = await _refuse_and_let_in(f"late-{n}", client, urls, rng)
        grants += book.lags(urls, of=lambda deed: deed.truth == "allowed")
        denials += book.lags(urls, of=lambda deed: deed.truth != "allowed")
    for lags in (grants, denials):
        _check(lags)


async def _refuse_and_let_in(customer: str, client: Client, urls: list[str], rng: random.Random) -> Book:
    event = {"customer_id": customer, "metric_code": "tokens", "transaction_id": customer}
    own = f"/core/api/v1/subscriptions/{customer}/entitlements"
    story: list[tuple[str, str, object, str]] = [
        ("POST", "/core/api/v1/customers", {"customer": {"external_id": customer}}, "no_subscription"),
        (
            *("POST", "/core/api/v1/subscriptions"),
            {
                "subscription": {
                    "external_customer_id": customer,
                    "external_id": customer,
                    "plan_code": "basic",
                }
            },
            "allowed",
        ),
        ("POST", "/api/v1/events", {**event, "properties": {"n": 100}}, "limit_exceeded"),
        ("PATCH", own, {"entitlements": {"chat": {"limit": 200}}}, "allowed"),
        ("DELETE", f"/core/api/v1/subscriptions/{customer}", None, "subscription_cancelled"),
    ]
    book = Book("no_subscription")
    target = f"/api/v1/can?customer_id={customer}&feature=chat"
    async with watching(book, client, urls, _verdict, target=target):
        for method, place, body, then in story:
            await asyncio.sleep(0.05)  # so that all of them have answered what is true by now
            async with book.deed(at=rng.choice(urls)) as deed:
                await client.must(method, place, body, at=deed.at)
                deed.makes(then)
        await asyncio.sleep(0.1)
    return book


def _verdict(answer: Mapping[str, object]) -> object:
    return "allowed" if answer["allowed"] else answer["reason"]


def _check(lags: Lags) -> None:
    print(lags)
    assert lags.own == 0
    assert lags.max_s <= OTHER_PROCESS_S * (1 if is_large() else UNDER_LOAD)
    assert not is_large() or lags.p99_s <= OTHERS_P99_S
