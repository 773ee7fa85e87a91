"""Processes that end with the one that started them, and that can be told apart from outside."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15


def dying_with_this_process(number: signal.Signals) -> Callable[[], None]:
    """What a child does between its fork and anything else, so that the kernel sends it `number` when this process dies
    (on Linux). Nothing is looked up then any more.

    More exactly when the thread that forks it dies: fork from the main thread. The parent may be dead already. A change
    of user clears the wish, so it comes after that.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def at_first() -> None:
        # Python's handler would swallow the signal until the exec.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return at_first


def name_this_process(name: str) -> None:
    """What `top` and `ps` call it: at most 15 bytes, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
