"""A merchant's program: speaks HTTP to several servers at once, and knows what to do when an answer never comes."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from uuid import uuid4

import aiohttp

from world import Answer, JsonObject, to_json

ANSWER_WITHIN_S = 20.0
"""The server's own deadline is 10 s; what takes longer is taken for lost."""


class Lost(Exception):
    """No answer came: what was asked for may have happened or not."""


def is_try_again(answer: Answer) -> bool:
    """Whether nothing is said about what was asked for."""
    return answer.status == 503


class Client:
    """Sends each call to one of the servers that run at the time, at random unless one is named."""

    def __init__(self, urls: Callable[[], Sequence[str]], secret: str, rng: random.Random) -> None:
        self._urls, self._secret, self._rng = urls, secret, rng

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=False),
            timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        key: str | None = None,
        at: str | None = None,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call to the server `at`; `key` is its Idempotency-Key. Lost when no answer comes."""
        url = at or self._some_server()
        sent = {"authorization": f"Bearer {secret or self._secret}", **(headers or {})}
        if key is not None:
            sent["idempotency-key"] = key
        if body is not None:
            sent["content-type"] = "application/json"
        try:
            async with self._session.request(
                method, url + target, data=None if body is None else to_json(body), headers=sent
            ) as response:
                answered = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, answered, await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as fault:
            raise Lost(repr(fault)) from fault

    async def insist(
        self, method: str, target: str, body: object, *, key: str, within_s: float = 60.0
    ) -> Answer:
        """The same call with the same key until an answer comes that is not "try again"; from any server."""
        deadline = time.monotonic() + within_s
        while True:
            said: object
            try:
                answer = await self.send(method, target, body, key=key)
                if not is_try_again(answer):
                    return answer
                said = answer
            except Lost as lost:
                said = lost
            assert time.monotonic() < deadline, f"no answer to {method} {target} ({key}): {said}"
            await asyncio.sleep(0.05)

    def _some_server(self) -> str:
        urls = self._urls()
        if not urls:
            raise Lost("no server runs")
        return self._rng.choice(urls)

    # What merchants do.

    async def post(self, target: str, body: object, **more: Any) -> Any:
        """A call that must succeed."""
        return await self.must("POST", target, body, **more)

    async def must(self, method: str, target: str, body: object, **more: Any) -> Any:
        answer = await self.send(method, target, body, **more)
        assert answer.status == 200, f"{target}: {answer.status} {answer.body[:500]!r}"
        return answer.json

    async def get(self, target: str, **more: Any) -> Any:
        answer = await self.send("GET", target, **more)
        assert answer.status == 200, f"{target}: {answer.status} {answer.body[:500]!r}"
        return answer.json

    async def a_customer(self, external_id: str, credits: object = None, **grant: object) -> str:
        """A customer, with a grant of credits if some are given."""
        await self.post("/core/api/v1/customers", {"customer": {"external_id": external_id}})
        if credits is not None:
            await self.grant(external_id, credits, **grant)
        return external_id

    async def grant(self, customer: str, amount: object, **more: object) -> JsonObject:
        made: JsonObject = await self.post(f"/api/v1/credits/{customer}/grants", {"amount": amount, **more})
        return made

    async def grant_until(self, customer: str, amount: object, expires_at: datetime, **more: object) -> bool:
        """Credits that soon expire; False when the server was asked so late that their time was over."""
        body = {"amount": amount, "expires_at": rfc3339(expires_at), **more}
        answer = await self.send("POST", f"/api/v1/credits/{customer}/grants", body)
        assert answer.status == 200 or b"expires_at" in answer.body, answer.body
        return answer.status == 200

    async def deduct(self, customer: str, credits: object, *, feature: str = "chat", **more: Any) -> Answer:
        return await self.send(
            "POST", "/api/v1/check-and-deduct", deduction(customer, credits, feature), **more
        )

    async def balance(self, customer: str) -> Decimal:
        return Decimal((await self.get(f"/api/v1/credits/{customer}/balance"))["balance"])

    async def entries(self, customer: str) -> list[JsonObject]:
        """All movements of a customer's credits, oldest first."""
        found: list[JsonObject] = []
        cursor = ""
        while True:
            page = await self.get(f"/api/v1/credits/{customer}/transactions?limit=100{cursor}")
            found += page["transactions"]
            if page["next_cursor"] is None:
                return found[::-1]
            cursor = f"&cursor={page['next_cursor']}"


def rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def deduction(customer: str, credits: object, feature: str = "chat") -> JsonObject:
    return {"customer_id": customer, "feature": feature, "credits": credits}


@dataclass
class Attempt:
    """One deduction that was wanted, under a key of its own that is also its feature, so that the ledger tells it."""

    customer: str
    amount: Decimal
    key: str = field(default_factory=lambda: uuid4().hex)
    answer: Answer | None = None
    """None: not answered, or told to try again."""

    target = "/api/v1/check-and-deduct"

    @property
    def body(self) -> JsonObject:
        return deduction(self.customer, self.amount, self.key)

    @property
    def allowed(self) -> bool:
        return self.answer is not None and bool(self.answer.json["allowed"])

    @property
    def remaining(self) -> Decimal:
        assert self.answer is not None
        return Decimal(self.answer.json["remaining"])

    @property
    def entry_id(self) -> str:
        """Of an allowed one."""
        assert self.answer is not None
        return str(self.answer.json["transaction_id"])

    async def send(self, client: Client, *, at: str | None = None) -> None:
        """Once. What is not "try again" must be an answer."""
        try:
            answer = await client.send("POST", self.target, self.body, key=self.key, at=at)
        except Lost:
            return
        if is_try_again(answer):
            return
        assert answer.status == 200, f"{answer.status} {answer.body[:500]!r}"
        self.answer = answer

    async def insist(self, client: Client) -> None:
        """Until it is answered."""
        self.answer = await client.insist("POST", self.target, self.body, key=self.key)
        assert self.answer.status == 200, f"{self.answer.status} {self.answer.body[:500]!r}"


@dataclass
class Use(Attempt):
    """The use of a metric that costs one credit a unit (`rate_uses`): it takes credits and is a meter event."""

    target = "/api/v1/usage/track"

    @property
    def body(self) -> JsonObject:
        return {
            "customer_id": self.customer,
            "feature_code": "uses",
            "credit_system_code": "credits",
            "properties": {"n": self.amount},
        }

    @property
    def entry_id(self) -> str:
        assert self.answer is not None
        return str(self.answer.json["operation_id"])


@dataclass
class Settling(Attempt):
    """The end of a hold that was made with the feature `key`: it takes credits, and puts back what is left of the hold."""

    hold_id: str = ""

    @property
    def target(self) -> str:  # type: ignore[override]
        return f"/api/v1/credits/{self.customer}/holds/{self.hold_id}/settle"

    @property
    def body(self) -> JsonObject:
        return {"amount": self.amount, "uncovered_limit": 1000}

    @property
    def taken(self) -> Decimal:
        """Of the balance; the rest is owed."""
        assert self.answer is not None
        return Decimal(self.answer.json["settled"]) - Decimal(self.answer.json["uncovered"])


async def a_hold(client: Client, customer: str, amount: Decimal, costs: Decimal, *, at: str) -> Attempt:
    """A hold to be settled by what it costs; a plain deduction where there is not enough to hold."""
    settling = Settling(customer, costs)
    body = {"amount": amount, "feature": settling.key, "expires_in": 600}
    held = await client.post(f"/api/v1/credits/{customer}/holds", body, at=at)
    if not held["allowed"]:
        return Attempt(customer, amount)
    settling.hold_id = held["hold_id"]
    return settling


async def rate_uses(client: Client) -> None:
    """What `Use` needs."""
    metric = {"code": "uses", "name": "Uses", "aggregation_type": "sum_agg", "field_name": "n"}
    await client.post("/core/api/v1/billable_metrics", {"billable_metric": metric})
    rate = {"metric_amount": "1", "credit_amount": "1"}
    await client.must("PUT", "/core/api/v1/credit-systems/credits/rates/uses", rate)


async def insist_on_all(attempts: Iterable[Attempt], client: Client) -> None:
    """Until each is answered, sixteen at a time."""
    some = asyncio.Semaphore(16)

    async def insist(one: Attempt) -> None:
        async with some:
            await one.insist(client)

    await asyncio.gather(*(insist(one) for one in attempts))
