"""Told to stop by SIGTERM or SIGINT, from a process's first step to its last.

Before it serves, the signal ends what is under way; while it serves, answers are finished first; after that, it changes
nothing any more, however often it comes. All of these end with 0: the process did as it was told.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """The signal came before there was anything to finish."""


class Stop:
    """Set once, by a signal or by hand; `event` tells those who wait for it."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._starting: asyncio.Task[object] | None = None

    def set(self) -> None:
        if not self.event.is_set():
            self.event.set()
            if self._starting is not None:
                self._starting.cancel()

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """The signal cancels what runs in this block, which then ends with Stopped."""
        if self.event.is_set():
            raise Stopped
        task = asyncio.current_task()
        assert task is not None
        self._starting = task
        try:
            yield
        except asyncio.CancelledError:
            if self.event.is_set() and task.uncancel() == 0:
                raise Stopped from None
            raise
        finally:
            self._starting = None
        if self.event.is_set():  # it swallowed the cancellation
            raise Stopped


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Signals set the Stop from here on. Those that were held back (`nozle_server.cli`) arrive now; after the block they
    are held back as they were before, also from threads that were begun meanwhile and hold nothing back."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield stop
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            if number in before:
                signal.signal(number, _change_nothing)


def _change_nothing(_number: int, _frame: object) -> None:
    """What a signal does to a process that is ending already."""


def take_signals() -> None:
    """Let signals do what they do to any program."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
