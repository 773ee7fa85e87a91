"""K01: what a signal means before a process serves, while it does, and after."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from nozle_server.serving.stopping import SIGNALS, Stop, Stopped, stop_signals


async def test_before_it_serves_a_signal_ends_what_is_under_way() -> None:
    with stop_signals() as stop:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), stop.interrupts():
            await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0, "what follows must run"
        with pytest.raises(Stopped), stop.interrupts():
            pytest.fail("it begins nothing any more")


async def test_while_it_serves_a_signal_only_tells() -> None:
    with stop_signals() as stop:
        with stop.interrupts():
            await asyncio.sleep(0)
        for number in (*SIGNALS, *SIGNALS):
            os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.event.wait(), 5)


async def test_a_cancellation_that_no_signal_asked_for_stays_one() -> None:
    stop = Stop()

    async def start() -> None:
        with stop.interrupts():
            await asyncio.sleep(60)

    starting = asyncio.create_task(start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_who_swallows_the_cancellation_is_stopped_all_the_same() -> None:
    stop = Stop()
    asyncio.get_running_loop().call_soon(stop.set)
    with pytest.raises(Stopped), stop.interrupts(), suppress(asyncio.CancelledError):
        await asyncio.sleep(60)


async def test_signals_held_back_arrive_when_somebody_listens_and_are_held_back_again() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        with stop_signals() as stop:
            await asyncio.wait_for(stop.event.wait(), 5)
        assert set(SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
