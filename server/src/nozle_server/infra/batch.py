"""Work on many like things at once, written as if for one: read for all of them in a few statements, write in as few.

Inside `batch(tx)`, a function marked `read_once` answers from memory what it was asked before, or what `foresee` told it
after a statement for all; and what is handed to `later` is written together, at the end. Outside, both do nothing: a
read reads and a write writes. So a batch is for things that do not depend on what one another writes.
"""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

from nozle_server.infra.database import Tx

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Batch:
    known: dict[Hashable, Any] = field(default_factory=dict)
    waiting: dict[Callable[[Tx, list[Any]], Awaitable[None]], list[Any]] = field(default_factory=dict)


_batches: dict[Tx, _Batch] = {}


@asynccontextmanager
async def batch(tx: Tx) -> AsyncIterator[None]:
    """Everything done with `tx` in the block is one batch; what waits is written when it ends without a fault."""
    assert tx not in _batches, "a batch is not part of another"
    _batches[tx] = _Batch()
    try:
        yield
        await write_out(tx)
    finally:
        del _batches[tx]


async def write_out(tx: Tx) -> None:
    """Write what waits, because what comes next refers to it."""
    waiting = _batches[tx].waiting if tx in _batches else {}
    while waiting:
        write = next(iter(waiting))
        await write(tx, waiting.pop(write))


def is_batch(tx: Tx) -> bool:
    """Whether what is done with `tx` now is part of a batch."""
    return tx in _batches


def read_once(
    read: Callable[Concatenate[Tx, P], Awaitable[T]],
) -> Callable[Concatenate[Tx, P], Awaitable[T]]:
    """A read whose answer does not change while a batch lasts."""

    @functools.wraps(read)
    async def remembered(tx: Tx, /, *args: P.args, **kwargs: P.kwargs) -> T:
        opened = _batches.get(tx)
        if opened is None:
            return await read(tx, *args, **kwargs)
        key = _key(remembered, args, kwargs)
        if key not in opened.known:
            opened.known[key] = await read(tx, *args, **kwargs)
        answer: T = opened.known[key]
        return answer

    return remembered


def foresee(
    tx: Tx,
    read: Callable[Concatenate[Tx, P], Awaitable[T]],
    answer: T,
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """What `read`, marked `read_once`, will answer in this batch when asked with these arguments."""
    _batches[tx].known[_key(read, args, kwargs)] = answer


async def later(tx: Tx, write_all: Callable[[Tx, Sequence[T]], Awaitable[None]], value: T) -> None:
    """Have `write_all` write this value: now, or in a batch at its end, together with others."""
    opened = _batches.get(tx)
    if opened is None:
        await write_all(tx, [value])
    else:
        opened.waiting.setdefault(write_all, []).append(value)


def _key(read: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    return read, args, tuple(sorted(kwargs.items())) if kwargs else ()
