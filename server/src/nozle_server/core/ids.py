"""Ids: UUIDv7 made here, so that they sort by creation and need nothing from the database.

Inside and on `/core` an id is the bare UUID; on `/api/v1` it is prefixed text such as `sub_0190…` (the UUID's 32 hex
digits), so that a reader sees what it names.
"""

import os
import time
from uuid import UUID

from nozle_server.core.errors import NotFound

_last_ms = 0
_counter = 0


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562): 48 bits of milliseconds, a 12-bit counter within the millisecond, 62 random bits.

    The counter keeps ids of one process in order of creation, also within one millisecond and when the machine's
    clock steps back.
    """
    global _last_ms, _counter
    now_ms = time.time_ns() // 1_000_000
    if now_ms > _last_ms:
        _last_ms, _counter = now_ms, 0
    else:
        _counter += 1
        if _counter > 0xFFF:
            _last_ms, _counter = _last_ms + 1, 0
    random_bits = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return UUID(int=_last_ms << 80 | 0x7 << 76 | _counter << 64 | 0b10 << 62 | random_bits)


def to_text(prefix: str, value: UUID) -> str:
    """`to_text("sub", uuid)` is `"sub_<32 hex digits>"`."""
    return f"{prefix}_{value.hex}"


def from_text(prefix: str, text: str, *, what: str) -> UUID:
    """The UUID in a prefixed id, or in a bare UUID; anything else cannot name an object: NotFound `<what> not found`."""
    body = text.removeprefix(f"{prefix}_")
    try:
        if len(body) not in (32, 36):
            raise ValueError(body)
        return UUID(body)
    except ValueError:
        raise NotFound(f"{what} not found", code=f"{what.replace(' ', '_')}_not_found") from None
