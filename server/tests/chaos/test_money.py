"""Group M of reliability.md."""

import asyncio
import random
from decimal import Decimal

import pytest

from chaos.clients import Client
from chaos.scale import scaled


@pytest.mark.parametrize("step", ["1", "0.1", "0.01", "0.3"])
async def test_m01_concurrent_deductions_make_a_staircase(
    client: Client, rng: random.Random, step: str
) -> None:
    """A balance for K: exactly K of more are allowed, whatever server they went to, each with a `remaining` of its own."""
    taken, covered = Decimal(step), scaled(40, at_1000=2500)
    wanted = covered + rng.randint(1, covered // 2)
    left_over = taken / 2
    granted = taken * covered + left_over
    await client.a_customer("acme", granted)

    answers = [
        one.json for one in await asyncio.gather(*(client.deduct("acme", taken) for _ in range(wanted)))
    ]

    stairs = sorted((Decimal(one["remaining"]) for one in answers if one["allowed"]), reverse=True)
    assert stairs == [granted - taken * n for n in range(1, covered + 1)]
    assert {Decimal(one["remaining"]) for one in answers if not one["allowed"]} == {left_over}
    assert await client.balance("acme") == left_over
