"""Answers with a moving average in them are given again until it moves; nobody waits for it to be read."""

import asyncio
import re
from time import monotonic

import pytest

from nozle_server.entitlements.economics import Economics, Wanted
from world import World, client, services, world

from .test_recalled_keys import Asking, asked_of

__all__ = ["asked_of", "client", "services", "world"]

pytestmark = pytest.mark.database

KEPT_S = 1.0


def _cost(answer: bytes) -> str:
    found = re.search(rb'"cost_per_use_cents":"?([^,"}]+)', answer)
    assert found is not None, answer
    return found[1].decode()


@pytest.fixture
async def read(world: World, asked_of: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Wanted]:
    """Which figures the long way had to wait for."""
    await world.a_cost_model(cost_type="per_model", model_rates={"big": {"input": 1_000_000, "output": 0}})
    waited: list[Wanted] = []
    get = Economics.get

    async def spy(self: Economics, wanted: Wanted, *more: object) -> object:
        waited.append(wanted)
        return await get(self, wanted, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Economics, "get", spy)
    monkeypatch.setattr(world.services.economics._estimates, "_kept_s", KEPT_S)
    return waited


async def _ask_for(asking: Asking, seconds: float) -> list[str]:
    ends, costs = monotonic() + seconds, []
    while monotonic() < ends:
        costs.append(_cost((await asking.ask())[1]))
        await asyncio.sleep(0.001)
    return costs


async def test_an_average_in_use_is_read_again_while_answers_are_given(
    world: World, asked_of: list[str], read: list[Wanted]
) -> None:
    keeping = asyncio.create_task(world.services.economics.keep_fresh())
    try:
        await world.use("acme", 1, properties={"model": "big", "input_tokens": 2, "output_tokens": 0})
        asking = Asking(world, world.secret)
        before = await _ask_for(asking, 3 * KEPT_S)
        assert len({*before}) == 1
        assert len(before) > 100
        assert len(read) == 1, "the first question"
        assert len(asked_of) < 5, "the others were answered from memory"
        await world.use("acme", 1, properties={"model": "big", "input_tokens": 4, "output_tokens": 0})
        after = await _ask_for(asking, 2 * KEPT_S)
        assert after[-1] not in before, "it has moved"
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_what_cannot_be_read_ahead_is_read_by_who_asks(
    world: World, asked_of: list[str], read: list[Wanted]
) -> None:
    """Here nobody reads ahead."""
    asking = Asking(world, world.secret)
    await _ask_for(asking, 2.5 * KEPT_S)
    assert len(read) >= 2
