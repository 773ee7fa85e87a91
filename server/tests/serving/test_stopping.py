"""K01: what a signal means before a process serves, while it does, and after."""

import asyncio
import os
import signal
import threading
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
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        # To this thread, as in a command that has no other yet: threads of the tests before hold nothing back.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        with stop_signals() as stop:
            await asyncio.wait_for(stop.event.wait(), 5)
            listening = await _a_thread_that_holds_nothing_back()
        assert set(SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
        for number in SIGNALS:
            os.kill(os.getpid(), number)  # whichever thread takes it, the process goes on
        listening.set()
        await asyncio.sleep(0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _a_thread_that_holds_nothing_back() -> threading.Event:
    """Set the event to end it."""
    begun, ending = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        loop.call_soon_threadsafe(begun.set)
        ending.wait(30)

    threading.Thread(target=wait, daemon=True).start()
    await begun.wait()
    return ending
