"""C03 of reliability.md: a limit that everybody runs into at once, by way of four processes."""

import asyncio
import random
import time
from dataclasses import dataclass
from decimal import Decimal

from chaos.clients import Attempt, Client
from chaos.scale import is_large, scaled
from chaos.views import OTHER_PROCESS_S, UNDER_LOAD

LIMIT = 100
OTHERS_KNOW_WITHIN_S = OTHER_PROCESS_S * (1 if is_large() else UNDER_LOAD)


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer of `can()`."""

    at: str
    began: float
    allowed: bool
    used: Decimal


@dataclass(frozen=True, slots=True)
class Counted:
    """One use, and when it was acknowledged."""

    at: str
    done: float


async def test_c03_can_lets_in_no_more_than_asked_before_they_could_know(
    client: Client, urls: list[str], rng: random.Random
) -> None:
    """`can()` advises: several may be told yes at once. But nobody is who asks a process that has itself counted up to the
    limit, nor anybody a second after any process has. 1,000 want to, at a limit of 100."""
    await _open_shop(client)
    asked: list[Asked] = []
    counted: list[Counted] = []
    left = scaled(300, at_1000=1000)

    async def keep_using(url: str) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.monotonic()
            answer = await client.get("/api/v1/can?customer_id=acme&feature=chat", at=url)
            asked.append(Asked(url, began, answer["allowed"], Decimal(answer["used"])))
            if answer["allowed"]:
                await client.post("/api/v1/events", _a_use(len(asked)), at=url)
                counted.append(Counted(url, time.monotonic()))
            else:
                await asyncio.sleep(0)

    callers = [url for url in urls for _ in range(scaled(4, at_1000=16))]
    await asyncio.gather(*(keep_using(url) for url in callers))
    for one in asked:
        known = sum(
            use.done < one.began - (0 if use.at == one.at else OTHERS_KNOW_WITHIN_S) for use in counted
        )
        assert one.used >= known, f"{one} does not know of {known} uses"
        assert one.allowed is (one.used < LIMIT)
    late = [one for one in asked if one.allowed and _counted_before(counted, one) >= LIMIT]
    print(f"{len(counted)} uses of {LIMIT} by {len(callers)} callers; {len(late)} of them were let in late")
    assert LIMIT <= len(counted) <= LIMIT + len(callers) - 1 + len(late)
    await asyncio.sleep(max(0, counted[-1].done + OTHERS_KNOW_WITHIN_S - time.monotonic()))
    for url in urls:
        answer = await client.get("/api/v1/can?customer_id=acme&feature=chat", at=url)
        assert (answer["allowed"], answer["used"]) == (False, len(counted))


def _counted_before(counted: list[Counted], asked: Asked) -> int:
    """In whichever process."""
    return sum(use.done < asked.began for use in counted)


async def test_c03_check_and_deduct_lets_in_nobody_too_many(
    client: Client, urls: list[str], rng: random.Random
) -> None:
    """1,000 at once want one of 100 credits: 100 get it."""
    await client.a_customer("acme", LIMIT)
    attempts = [Attempt("acme", Decimal(1)) for _ in range(1000)]
    some = asyncio.Semaphore(256)

    async def send(one: Attempt) -> None:
        async with some:
            await one.insist(client)

    await asyncio.gather(*(send(one) for one in attempts))
    assert sum(one.allowed for one in attempts) == LIMIT
    assert await client.balance("acme") == 0


async def _open_shop(client: Client) -> None:
    metric = {"code": "uses", "name": "Uses", "aggregation_type": "count_agg"}
    await client.post("/core/api/v1/billable_metrics", {"billable_metric": metric})
    feature = {"code": "chat", "name": "Chat", "billable_metric_code": "uses"}
    await client.post("/core/api/v1/features", {"feature": feature})
    plan = {"code": "basic", "name": "Basic", "interval": "monthly", "amount_cents": 0}
    await client.post("/core/api/v1/plans", {"plan": plan})
    wanted = {"entitlements": {"chat": {"limit": LIMIT}}}
    await client.post("/core/api/v1/plans/basic/entitlements", wanted)
    await client.a_customer("acme")
    await client.post("/api/v1/subscribe", {"customer_id": "acme", "plan_code": "basic"})


def _a_use(number: int) -> dict[str, object]:
    return {"transaction_id": f"use-{number}", "customer_id": "acme", "metric_code": "uses"}
