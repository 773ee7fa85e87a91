"""K05 of reliability.md: killed between commit and answer, asked again.

Webhooks of a payment provider are not received yet. What they will rely on is the same for every call that moves money:
whoever repeats it with its key is told what was committed, and nothing happens again.
"""

import asyncio
import random
from collections.abc import Callable

import pytest

from chaos.clients import Client, Lost
from chaos.gate import Gate
from chaos.harness import Installation
from chaos.scale import scaled
from world import JsonObject

# What is called, with what (of the invoice and the wallet that there are), and which rows are its effect.
CALLS: dict[str, tuple[str, Callable[[str, str], JsonObject], str]] = {
    "grant": (
        "/api/v1/credits/acme/grants",
        lambda _invoice, _wallet: {"amount": "12.5", "source": "manual"},
        "select count(*) from credit_grants where org_id = $1",
    ),
    "payment": (
        "/core/api/v1/payments",
        lambda invoice, _wallet: {
            "payment": {"invoice_id": invoice, "amount_cents": 100, "reference": "wire", "type": "manual"}
        },
        "select count(*) from payments where org_id = $1",
    ),
    "top-up": (
        "/core/api/v1/wallet_transactions",
        lambda _invoice, wallet: {"wallet_transaction": {"wallet_id": wallet, "granted_credits": "7"}},
        "select count(*) from wallet_transactions where org_id = $1",
    ),
    "invoice": (
        "/core/api/v1/invoices",
        lambda _invoice, _wallet: {
            "invoice": {
                "external_customer_id": "acme",
                "currency": "USD",
                "fees": [{"add_on_code": "setup", "units": "1", "unit_amount_cents": 5000}],
            }
        },
        "select count(*) from invoices where org_id = $1",
    ),
}


@pytest.mark.parametrize("what", CALLS)
async def test_k05_a_server_killed_between_commit_and_answer_is_asked_again(
    installation: Installation, client: Client, rng: random.Random, what: str
) -> None:
    """One effect, however often it is repeated and wherever; invoices are numbered without a gap or a twin."""
    target, body_of, effects = CALLS[what]
    [merchant] = installation.merchants
    invoice, wallet = await _something_to_pay(client)
    body = body_of(invoice, wallet)
    async with installation.session() as session:

        async def count() -> int:
            return int(await session.fetchval(effects, merchant.org_id))

        for kill in range(scaled(1, at_1000=250)):
            before = await count()
            async with Gate(installation) as gate:
                server = await installation.start_server(database_url=gate.url)
                await client.get("/core/api/v1/invoices", at=server.url)  # so that it knows the key
                gate.hold()
                call = asyncio.create_task(client.send("POST", target, body, key=f"{kill}", at=server.url))
                async with asyncio.timeout(30):
                    while await count() == before:  # noqa: ASYNC110 - it is another process's
                        await asyncio.sleep(0.005)
                await server.kill()
                with pytest.raises(Lost):
                    await call
            installation.forget_ended()
            answers = [
                await client.insist("POST", target, body, key=f"{kill}") for _ in range(rng.randint(1, 3))
            ]
            assert all(answer.status == 200 and answer.replayed for answer in answers), answers[0].body
            assert len({answer.body for answer in answers}) == 1
            assert await count() == before + 1
        numbers = await session.fetch(
            "select number from invoices where org_id = $1 order by number", merchant.org_id
        )
        assert len({row["number"] for row in numbers}) == len(numbers)


async def _something_to_pay(client: Client) -> tuple[str, str]:
    """A customer's open invoice and wallet."""
    await client.a_customer("acme")
    add_on = {"name": "Setup", "code": "setup", "amount_cents": 5000, "amount_currency": "USD"}
    await client.post("/core/api/v1/add_ons", {"add_on": add_on})
    made = await client.post(
        "/core/api/v1/invoices",
        {
            "invoice": {
                "external_customer_id": "acme",
                "currency": "USD",
                "fees": [{"add_on_code": "setup", "units": "100", "unit_amount_cents": 50000}],
            }
        },
    )
    wallet = {"external_customer_id": "acme", "rate_amount": "1", "currency": "USD", "name": "w"}
    return (
        made["invoice"]["lago_id"],
        (await client.post("/core/api/v1/wallets", {"wallet": wallet}))["wallet"]["lago_id"],
    )
