"""Heads of requests that were read before: a client sends the same one each time, and a body of its own.

Reading a head costs more than most of what follows. So one that was found plain is remembered, by its bytes, with what it
means: the same bytes mean the same, and the body is what comes behind them, if it has the same length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nozle_server.api.incoming import Incoming

if TYPE_CHECKING:
    from nozle_server.api.pipeline import Pipeline

MAX_HEADS = 1_000
MAX_HEAD_BYTES = 4096
_END = b"\r\n\r\n"
# With these a head is no other request's.
_UNREPEATED = ("x-request-id", "idempotency-key")


class Heads:
    """What one process remembers, in two halves: when the younger is full, the older is dropped."""

    def __init__(self) -> None:
        self._young: dict[bytes, tuple[Pipeline, Incoming, int]] = {}
        self._old: dict[bytes, tuple[Pipeline, Incoming, int]] = {}

    def find(self, read: bytes, client: str | None) -> tuple[Pipeline, Incoming] | None:
        """The one request that was read; None when its head is not known, or it is not all that was read."""
        head_bytes = read.find(_END) + len(_END)
        head = read[:head_bytes]
        known = self._young.get(head)
        if known is None:
            known = self._old.pop(head, None)
            if known is None:
                return None
            self._put(head, known)
        pipeline, incoming, body_bytes = known
        if len(read) != head_bytes + body_bytes:
            return None
        return pipeline, incoming.again(read[head_bytes:], client)

    def remember(self, read: bytes, pipeline: Pipeline, incoming: Incoming) -> None:
        """This plain request was in `read`; its head is remembered if nothing else was."""
        head_bytes = read.find(_END) + len(_END)
        if head_bytes > MAX_HEAD_BYTES or any(name in incoming.headers for name in _UNREPEATED):
            return
        body = incoming.body or b""
        if read[head_bytes:] == body:
            self._put(read[:head_bytes], (pipeline, incoming.again(None, None), len(body)))

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _put(self, head: bytes, known: tuple[Pipeline, Incoming, int]) -> None:
        self._young[head] = known
        if len(self._young) > MAX_HEADS // 2:
            self._old, self._young = self._young, {}
