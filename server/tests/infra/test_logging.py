"""Lines keep their order and stay whole, whoever writes them and however many at once."""

import asyncio
import io
import json
from collections.abc import Iterator

import pytest
import structlog

from nozle_server.infra.logging import configure_logging, request_lines


class Stream(io.RawIOBase):
    """Remembers each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.writes.append(bytes(data))
        return len(data)


class FullDisk(Stream):
    def write(self, data: bytes) -> int:  # type: ignore[override]  # noqa: ARG002
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def _tell(name: str) -> None:
    lines = request_lines()
    assert lines is not None
    lines.write_request(name, method="GET", route="/x", status=200, seconds=0.0012345, org_id=None)


async def test_what_one_turn_of_the_loop_answers_is_written_together_in_the_order_it_came() -> None:
    stream = Stream()
    configure_logging("info", stream, worker="w1")  # type: ignore[arg-type]
    _tell("a")
    _tell("b")
    assert stream.writes == []
    structlog.get_logger().warning("between")
    _tell("c")
    await asyncio.sleep(0)
    entries = [json.loads(line) for line in b"".join(stream.writes).splitlines()]
    assert [entry.get("request_id", entry["msg"]) for entry in entries] == ["a", "b", "between", "c"]
    assert all(entry["worker"] == "w1" for entry in entries)
    assert len(stream.writes) == 2
    assert entries[0]["duration_ms"] == 1.234


async def test_no_write_is_larger_than_a_pipe_takes_at_once_and_none_ends_within_a_line() -> None:
    stream = Stream()
    configure_logging("info", stream)  # type: ignore[arg-type]
    for number in range(200):
        _tell("x" * (number % 120))
    structlog.get_logger().error("long", text="y" * 10_000)
    assert all(len(text) <= 4096 for text in stream.writes[:-1])
    assert all(text.endswith(b"}\n") for text in stream.writes)
    assert len(b"".join(stream.writes).splitlines()) == 201
    assert len(stream.writes) < 20


async def test_requests_are_not_told_of_above_their_level() -> None:
    stream = Stream()
    configure_logging("warning", stream)  # type: ignore[arg-type]
    _tell("a")
    await asyncio.sleep(0)
    assert stream.writes == []


async def test_a_log_that_cannot_be_written_to_stops_nobody() -> None:
    configure_logging("info", FullDisk())  # type: ignore[arg-type]
    _tell("a")
    structlog.get_logger().error("b")
    await asyncio.sleep(0)
