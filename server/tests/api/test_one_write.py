"""Head and body leave together, nothing is lost, and the order stays."""

import asyncio
from typing import Any

import pytest

from nozle_server.api.one_write import OneWriteTransport


class RecordingTransport:
    def __init__(self) -> None:
        self.log: list[Any] = []

    def write(self, data: bytes) -> None:
        self.log.append(data)

    def close(self) -> None:
        self.log.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.log


@pytest.fixture
async def recorded() -> RecordingTransport:
    return RecordingTransport()


@pytest.fixture
async def transport(recorded: RecordingTransport) -> OneWriteTransport:
    return OneWriteTransport(recorded, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_two_writes_are_one(transport: OneWriteTransport, recorded: RecordingTransport) -> None:
    transport.write(b"head")
    transport.write(b"body")
    assert recorded.log == [b"headbody"]
    await asyncio.sleep(0)
    assert recorded.log == [b"headbody"]


async def test_one_write_leaves_at_the_next_turn(
    transport: OneWriteTransport, recorded: RecordingTransport
) -> None:
    transport.write(b"head")
    await asyncio.sleep(0)
    assert recorded.log == [b"head"]


async def test_nothing_is_lost_at_the_end(transport: OneWriteTransport, recorded: RecordingTransport) -> None:
    for part in (b"1", b"2", b"3"):
        transport.write(part)
    transport.close()
    await asyncio.sleep(0)
    assert recorded.log == [b"12", b"3", "closed"]
    assert transport.is_closing()
