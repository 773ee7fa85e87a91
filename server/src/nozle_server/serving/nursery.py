"""Where workers are born: a process that has read all our code once, and forks one whenever it is asked to.

Reading it takes 1 s of a core, 4 s where Python may not keep its bytecode; a fork takes 20 ms, so that a worker that died
is soon replaced, and the workers share the memory. The supervisor itself cannot fork: it has an event loop and threads.

All of this family dies with its parent, at once and by the kernel's hand (SIGKILL): supervisor, nursery, workers. When the
supervisor closes its end of the socket, the nursery ends whoever is left, and itself.
"""

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO

from nozle_server.infra.child_process import dying_with_this_process, name_this_process
from nozle_server.serving import worker

_LONGEST_ORDER = 65_536
END_WITHIN_S = 5.0
ENDED = b"ended "


class Nursery:
    """The supervisor's hold on the process."""

    def __init__(self, environment: Mapping[str, str], *, log_file: BinaryIO | None = None) -> None:
        assert threading.current_thread() is threading.main_thread(), "it would die with this thread"
        self._has_children = False
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-P", "-m", "nozle_server.serving.nursery", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stderr=log_file,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C is the supervisor's
                preexec_fn=dying_with_this_process(signal.SIGKILL),
            )
        finally:
            theirs.close()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def fork(self, assignment: worker.Assignment, listener: socket.socket | None) -> socket.socket:
        """A worker for this assignment, and our end of the channel to it: it says `ready` there, the nursery says
        `ended STATUS`, and we say `stop`. OSError when the nursery has died."""
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno(), *([listener.fileno()] if listener else [])]
        try:
            socket.send_fds(self._socket, [assignment.to_json()], descriptors)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._has_children = True
        return ours

    def close(self) -> None:
        """End every worker that is left, by force."""
        self._socket.close()
        if not self._has_children:
            self._process.kill()  # it may still be reading code, and would not hear of it for a while
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """The process. It has one thread and no event loop, so that a fork of it is a beginning."""
    name_this_process("nozle-nursery")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, signal.SIG_IGN
        )  # it goes when the supervisor goes, also where all are told at once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    orders = socket.socket(fileno=int(sys.argv[1]))
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    gc.collect()
    gc.freeze()  # what was read is shared for longer when no collection touches it
    channels: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([orders.fileno(), woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _reap(channels)
        if orders.fileno() in readable:
            order, descriptors, _, _ = socket.recv_fds(orders, _LONGEST_ORDER, 2)
            if not order:
                break
            channel = socket.socket(fileno=descriptors[0])
            listener = socket.socket(fileno=descriptors[1]) if descriptors[1:] else None
            pid = _fork(order, channel, listener, inherited=[orders, *channels.values()])
            channels[pid] = channel
            if listener is not None:
                listener.close()
    for pid in channels:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _reap(channels: dict[int, socket.socket]) -> None:
    for pid in list(channels):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with channels.pop(pid) as channel, suppress(OSError):
                channel.send(ENDED + b"%d\n" % os.waitstatus_to_exitcode(status))


def _fork(
    order: bytes, channel: socket.socket, listener: socket.socket | None, *, inherited: list[socket.socket]
) -> int:
    at_first = dying_with_this_process(signal.SIGKILL)
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        at_first()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for other in inherited:
            other.close()  # else we would keep them open for those who died
        status = worker.run(worker.Assignment.from_json(order), channel, listener)
    except BaseException:  # noqa: BLE001 - nothing may get out of here into the parent's code
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
