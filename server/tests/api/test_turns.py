"""One at a time for each name, nobody waits for ever, and nothing is remembered of who is gone."""

import asyncio
from collections.abc import Sequence

import pytest

from nozle_server.api import turns as module
from nozle_server.api.turns import Turns
from nozle_server.core.errors import Unavailable


async def test_one_at_a_time_for_each_name_and_in_order_of_arrival() -> None:
    turns, log = Turns(), list[str]()

    async def work(who: str, *names: str) -> None:
        async with turns.take(names, within="org"):
            log.append(f"{who} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.append(f"{who} ends")

    await asyncio.gather(work("1", "a"), work("2", "a"), work("3", "b"))
    assert log == ["1 begins", "3 begins", "1 ends", "3 ends", "2 begins", "2 ends"]
    assert not turns._turns


async def test_names_of_different_organizations_are_different() -> None:
    turns = Turns(patience_s=0.01)
    async with turns.take(["a"], within="one"), turns.take(["a"], within="two"):
        pass


@pytest.mark.parametrize("orders", [(("a", "b"), ("b", "a")), (("a", "b", "c"), ("c", "a", "a"))])
async def test_several_names_never_wait_for_each_other(orders: Sequence[Sequence[str]]) -> None:
    turns = Turns()

    async def work(names: Sequence[str]) -> None:
        async with turns.take(names, within="org"):
            await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await asyncio.gather(*(work(orders[n % 2]) for n in range(50)))
    assert not turns._turns


async def test_who_waits_too_long_is_told_and_holds_nothing() -> None:
    turns = Turns(patience_s=0.01)
    async with turns.take(["b"], within="org"):
        with pytest.raises(Unavailable) as refused:
            async with turns.take(["a", "b"], within="org"):
                pytest.fail("it was somebody else's turn")
        assert refused.value.code == "lock_timeout"
        async with turns.take(["a"], within="org"):
            pass
    assert not turns._turns


async def test_a_fault_in_the_work_passes_and_gives_the_turn_away() -> None:
    turns = Turns(patience_s=0.01)
    with pytest.raises(TimeoutError):
        async with turns.take(["a"], within="org"):
            raise TimeoutError
    async with turns.take(["a"], within="org"):
        pass


async def test_who_waits_while_it_goes_on_waits_longer() -> None:
    """A long queue is not a stuck one: each that is done gives the others time."""
    turns = Turns(patience_s=1)

    async def work() -> None:
        async with turns.take(["a"], within="org"):
            await asyncio.sleep(0.15)

    await asyncio.gather(*(work() for _ in range(12)))
    assert not turns._turns


async def test_too_many_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    turns = Turns()
    gate = asyncio.Event()

    async def work() -> None:
        async with turns.take(["a"], within="org"):
            await gate.wait()

    tasks = [asyncio.create_task(work()) for _ in range(6)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [one for one in answers if one is not None]
    assert len(done) == len(refused) == 2
    assert {one.code for one in refused if isinstance(one, Unavailable)} == {"too_busy"}
