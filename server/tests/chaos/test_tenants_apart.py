"""C10 of reliability.md: two merchants whose customers, features and plans have the same names."""

import asyncio
import random

from chaos.clients import Client
from chaos.harness import Installation, Merchant
from chaos.scale import scaled

CUSTOMERS = [f"acme-{n}" for n in range(10)]
LIMITS = (1_000, 2_000)


async def test_c10_no_answer_of_one_merchant_is_ever_anothers(
    installation: Installation, client: Client, merchant: Merchant, urls: list[str], rng: random.Random
) -> None:
    """Read in any order by way of any process, on the same connections, while both change their limits."""
    other = await installation.open_merchant()
    secrets = (merchant.secret, other.secret)
    limits = list(LIMITS)
    for secret, limit in zip(secrets, limits, strict=True):
        await _open_shop(client, secret, limit)
    left, crossings, wrong = scaled(2_000, at_1000=100_000), 0, 0

    async def keep_reading() -> None:
        nonlocal left, crossings, wrong
        while left > 0:
            left -= 1
            which = rng.randrange(2)
            customer = rng.choice(CUSTOMERS)
            answer = await client.get(
                f"/api/v1/can?customer_id={customer}&feature=chat", secret=secrets[which], at=rng.choice(urls)
            )
            # Each merchant's limits end in a digit of its own, and each customer's use in that of its name.
            crossings += answer["limit"] % 10 != which
            wrong += answer["used"] != CUSTOMERS.index(customer) + 10 * which

    async def keep_changing() -> None:
        while left > 0:
            which = rng.randrange(2)
            limits[which] += 10
            await _set_limit(client, secrets[which], limits[which] + which)
            await asyncio.sleep(0.05)

    await asyncio.gather(keep_changing(), *(keep_reading() for _ in range(8)))
    assert (crossings, wrong) == (0, 0)


async def _open_shop(client: Client, secret: str, limit: int) -> None:
    which = LIMITS.index(limit)
    metric = {"code": "tokens", "name": "Tokens", "aggregation_type": "sum_agg", "field_name": "n"}
    await client.post("/core/api/v1/billable_metrics", {"billable_metric": metric}, secret=secret)
    feature = {"code": "chat", "name": "Chat", "billable_metric_code": "tokens"}
    await client.post("/core/api/v1/features", {"feature": feature}, secret=secret)
    plan = {"code": "basic", "name": "Basic", "interval": "monthly", "amount_cents": 0}
    await client.post("/core/api/v1/plans", {"plan": plan}, secret=secret)
    await _set_limit(client, secret, limit + which)
    for number, customer in enumerate(CUSTOMERS):
        person = {"customer": {"external_id": customer}}
        await client.post("/core/api/v1/customers", person, secret=secret)
        subscription = {"customer_id": customer, "plan_code": "basic"}
        await client.post("/api/v1/subscribe", subscription, secret=secret)
        event = {"transaction_id": customer, "customer_id": customer, "metric_code": "tokens"}
        used = {**event, "properties": {"n": number + 10 * which}}
        await client.post("/api/v1/events", used, secret=secret)


async def _set_limit(client: Client, secret: str, limit: int) -> None:
    target = "/core/api/v1/plans/basic/entitlements"
    await client.post(target, {"entitlements": {"chat": {"limit": limit}}}, secret=secret)
