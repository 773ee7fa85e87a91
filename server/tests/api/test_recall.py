"""Answers given again: only to the same bytes, only while they stand, and otherwise just as if they had been made anew."""

import asyncio
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
import structlog

from nozle_server.api import recall
from nozle_server.api.answer import Validity
from nozle_server.api.app import build_app
from nozle_server.api.endpoint import Call, Endpoint, Reply, Scope
from nozle_server.core.clock import FixedClock
from nozle_server.core.standing import Standing
from nozle_server.identity.model import KeyKind, Principal
from nozle_server.infra.logging import configure_logging
from nozle_server.infra.settings import Settings

from .conftest import NOW, AnyServices
from .test_lane import SECRET, Connection, Keys, Server, request

KEY_STANDING: dict[str, Standing] = {}


class StandingKeys(Keys):
    """Keys that stand until a test says otherwise."""

    async def find(self, key_text: str) -> Principal | None:
        return await super().find(key_text)

    def standing_of(self, key_text: str, principal: Principal) -> Standing | None:
        assert principal.kind is KeyKind.SECRET
        return KEY_STANDING.get(key_text)


class Oracle:
    """An endpoint that says how often it was asked, and what its answer relies on."""

    def __init__(self, *, lane: bool = True, room: int = 1000) -> None:
        self.asked = 0
        self.standing = Standing()
        self.ends_at: Any = None
        self.clock = FixedClock(NOW)
        self.log = io.BytesIO()
        KEY_STANDING.clear()
        KEY_STANDING[SECRET] = Standing()
        endpoint = Endpoint(
            method="GET", path="/told", handler=self._tell, scope=Scope.SECRET, summary="", tag="",
            transaction=False, lane=True,
        )  # fmt: skip
        plain = Endpoint(
            method="POST", path="/told", handler=self._tell, scope=Scope.SECRET, summary="", tag="",
            transaction=False, lane=True,
        )  # fmt: skip
        configure_logging("info", self.log)
        services = AnyServices(None, StandingKeys(), Settings(lane=lane, cached_customers=room), self.clock)  # type: ignore[arg-type]
        self.server = Server(build_app(services, (endpoint, plain)), services.metrics.render, self.log)  # type: ignore[arg-type]

    async def _tell(self, call: Call) -> Reply:
        self.asked += 1
        body = {"query": call.request_id.startswith("req_"), "origin": call.headers.get("origin")}
        return Reply(body, validity=Validity((self.standing,), self.ends_at))

    @property
    def recall(self) -> recall.Recall:
        assert self.server.app.lane is not None
        return self.server.app.lane.recall


def ask(*more: bytes, **otherwise: Any) -> bytes:
    otherwise = {"method": b"GET", "url": b"/api/v1/told", "request_id": None, **otherwise}
    return request(None, *more, **otherwise)


async def answers(connection: Connection, *pieces: bytes) -> list[bytes]:
    """What came back for each piece, one after the other."""
    got = []
    for piece in pieces:
        before = len(connection.wire.sent)
        connection.receive(piece)
        await connection.settle()
        got.append(connection.wire.sent[before:])
    return got


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def _without_id(answer: bytes) -> bytes:
    return re.sub(rb"req_[0-9a-f]{24}", b"req_random", answer)


async def test_the_same_bytes_get_the_same_answer_with_an_id_of_its_own() -> None:
    oracle = Oracle()
    got = await answers(oracle.server.connect(), *[ask()] * 4)
    assert oracle.asked == 1
    assert len({_without_id(one) for one in got}) == 1
    assert len({re.search(rb"x-request-id: (req_[0-9a-f]{24})\r\n", one)[1] for one in got}) == 4  # type: ignore[index]
    [again] = await answers(oracle.server.connect(), ask())
    assert _without_id(again) == _without_id(got[0]), (
        "on another connection too, beginning with its first request"
    )
    assert oracle.asked == 1


async def test_the_head_of_the_moment_goes_out_with_it() -> None:
    oracle = Oracle()
    connection = oracle.server.connect()
    await answers(connection, ask(), ask())
    oracle.server.state.default_headers = [(b"date", b"Fri, 16 Jan 2026 10:30:00 GMT")]
    [got] = await answers(connection, ask())
    assert got.startswith(b"HTTP/1.1 200 OK\r\ndate: Fri, 16 Jan 2026 10:30:00 GMT\r\n")
    assert oracle.asked == 1


async def test_whatever_falls_the_answer_is_made_anew() -> None:
    oracle = Oracle()
    connection = oracle.server.connect()
    await answers(connection, ask(), ask())
    assert oracle.asked == 1
    oracle.standing.fall()
    oracle.standing = Standing()
    await answers(connection, ask(), ask())
    assert oracle.asked == 2
    KEY_STANDING[SECRET].fall()
    await answers(connection, ask(), ask())
    assert oracle.asked == 4, "nothing is kept for a key that does not stand"
    KEY_STANDING[SECRET] = Standing()
    oracle.ends_at = NOW + timedelta(seconds=1)
    await answers(connection, ask(), ask())
    assert oracle.asked == 5
    oracle.clock.move_to(NOW + timedelta(seconds=1))
    await answers(connection, ask())
    assert oracle.asked == 6, "what ends at an instant has ended at that instant"


async def test_another_byte_is_another_request() -> None:
    oracle = Oracle()
    connection = oracle.server.connect()
    variants = [
        ask(), ask(b"Origin: https://a.example"), ask(b"Origin: https://b.example"), ask(url=b"/engine/api/v1/told"),
        ask(b"accept: */*"), ask(b"Accept: */*"), ask(method=b"POST", length=None),
    ]  # fmt: skip
    first = await answers(connection, *variants)
    asked = oracle.asked
    assert asked == len(variants)
    assert [_without_id(one) for one in await answers(connection, *variants)] == [
        _without_id(one) for one in first
    ]
    assert oracle.asked == asked


HOSTILE = [
    ask() + ask(), ask()[:-1], ask()[:20], ask(b"X-Request-Id: mine"), ask(b"Connection: close"), ask(version=b"HTTP/1.0"),
    ask(b"Expect: 100-continue"), ask(b"Content-Length: 4") + b"\r\n\r\n", ask(b"Content-Length: 2") + b"{}",
    ask(b"Transfer-Encoding: chunked") + b"0\r\n\r\n", ask(b"Upgrade: h2c", b"Connection: upgrade"), ask(key="sk_other"),
    ask(key=None), ask() + b"GET", b"\r\n" + ask(), ask() + b"\r\n", ask(method=b"HEAD"), ask(method=b"DELETE"),
    ask(b"A: " + b"x" * 5000), b"nonsense\r\n\r\n", ask(b"Authorization: Bearer sk_other"), b"",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
async def test_hostile_requests_are_answered_as_without_a_memory(piece: bytes) -> None:
    """Before, between and behind requests whose answers are known."""
    seen = []
    for lane in (True, False):
        for pieces in (
            (ask(), ask(), piece, ask(), piece, ask()),
            (ask(), ask(), piece + ask(), ask(), ask()),
            (piece, piece, ask(), ask()),
        ):
            connection = Oracle(lane=lane).server.connect()
            got = b"".join(await answers(connection, *pieces))
            seen.append((lane, _without_id(got), connection.wire.closed))
    by_lane = [one[1:] for one in seen if one[0]]
    assert by_lane == [one[1:] for one in seen if not one[0]]


@pytest.mark.parametrize("known", ["answer", "head"])
@pytest.mark.parametrize("piece", HOSTILE)
async def test_a_connection_that_begins_with_what_is_known_is_like_any_other(
    piece: bytes, known: str
) -> None:
    """Before and behind its first answer, timers and all: the one for requests that trickle in, and the one for silence."""
    seen: list[list[object]] = []
    for lane in (True, False):
        looks: list[object] = []
        seen.append(looks)
        for pieces in (
            (ask(), piece, ask()),
            (piece, ask()),
            (ask() + piece,),
            (ask(), ask()[:20], ask()[20:]),
        ):
            oracle = Oracle(lane=lane)
            await answers(oracle.server.connect(), ask(), ask())
            if known == "head":
                oracle.standing.fall()
            connection = oracle.server.connect()
            looks.append(connection.look())
            for one in pieces:
                await answers(connection, one)
                looks.append(connection.look())
            await connection.lose()
            looks.append(connection.look())
    assert seen[0] == seen[1]


async def test_a_given_request_id_is_given_back_and_never_to_another() -> None:
    oracle = Oracle()
    connection = oracle.server.connect()
    got = await answers(connection, *[ask(b"X-Request-Id: mine")] * 2, ask())
    assert [b"x-request-id: mine" in one for one in got] == [True, True, False]
    assert oracle.asked == 3


async def test_who_does_not_read_is_not_answered_from_memory_either() -> None:
    oracle = Oracle()
    connection = oracle.server.connect()
    await answers(connection, ask(), ask())
    connection.protocol.pause_writing()
    assert await answers(connection, ask()) == [b""]
    connection.protocol.resume_writing()
    await connection.settle()
    assert connection.wire.sent.count(b"HTTP/1.1 200") == 3


async def test_a_server_that_leaves_closes_the_connection() -> None:
    oracle = Oracle()
    connection = oracle.server.connect()
    await answers(connection, ask(), ask())
    connection.protocol.shutdown()
    [got] = await answers(connection, ask())
    assert b"connection: close\r\n" in got
    assert connection.wire.closed


async def test_only_silence_lets_the_keep_alive_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    for module in ("lane", "recall"):
        monkeypatch.setattr(f"nozle_server.api.{module}.monotonic", lambda: now)
    connection = Oracle().server.connect()
    await answers(connection, ask())
    now += 29
    await answers(connection, ask())
    connection.protocol.timeout_keep_alive = 30
    connection.protocol.timeout_keep_alive_handler()
    assert not connection.wire.closed
    now += 30
    connection.protocol.timeout_keep_alive_handler()
    assert connection.wire.closed


@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize("begins", [True, False])
async def test_an_empty_line_does_not_keep_a_connection_for_ever(lane: bool, begins: bool) -> None:
    """It is neither a request, which would have a deadline, nor silence, which would end the connection."""
    oracle = Oracle(lane=lane)
    await answers(oracle.server.connect(), ask())
    connection = oracle.server.connect()
    await answers(connection, *([] if begins else [ask()]), b"\r\n")
    assert connection.look()["deadline"] == begins
    assert connection.look()["keep_alive_timer"] != begins
    await answers(connection, ask(), b"\r\n")
    assert connection.look()["keep_alive_timer"]
    connection.protocol.timeout_keep_alive_handler()
    if not lane:
        assert connection.wire.closed


async def test_every_answer_is_counted_and_the_log_tells_of_them_together() -> None:
    oracle = Oracle()
    await answers(oracle.server.connect(), *[ask()] * 5)
    oracle.recall.tell()
    counted = re.findall(
        rb"(?m)^nozle_api_requests_total.*GET /api/v1/told.* (\S+)$", oracle.server.metrics()
    )
    assert [float(one) for one in counted] == [5]
    durations = re.findall(rb"(?m)^nozle_api_duration_seconds_count.*told.* (\S+)$", oracle.server.metrics())
    assert [float(one) for one in durations] == [5]
    lines = [json.loads(line) for line in oracle.log.getvalue().splitlines()]
    assert [line.get("count", 1) for line in lines if line["msg"] in ("request", "requests")] == [1, 4]
    oracle.recall.tell()
    assert len(oracle.log.getvalue().splitlines()) == len(lines), "once"


async def test_the_memory_is_bounded_and_keeps_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nozle_server.api.app.BYTES_A_CUSTOMER", 1)
    oracle = Oracle(room=64 * 1024)
    connection = oracle.server.connect()
    await answers(connection, ask())
    for n in range(500):
        await answers(connection, ask(b"X-Trace: %d" % n), ask())
    assert len(oracle.recall) < 100
    assert oracle.asked == 501, "what is asked for all the time was never forgotten"


async def test_what_is_forgotten_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle()
    connection = oracle.server.connect()
    for _ in range(50):
        await answers(connection, ask())
        oracle.standing.fall()
        oracle.standing = Standing()
    await answers(connection, ask())
    oracle.standing.fall()
    oracle.recall.answer(ask(), [])
    assert (len(oracle.recall), oracle.recall._young_bytes) == (0, 0)
    await asyncio.sleep(0)


async def test_what_answers_share_is_only_what_is_the_same() -> None:
    """Each of these relies on others of the same things, and ends with them and with nothing else."""
    oracle = Oracle()
    kept, things = oracle.recall, [Standing() for _ in range(4)]
    kind = "GET /told", 200, None
    relies = {
        b"%d" % n: tuple(things[i] for i in chosen)
        for n, chosen in enumerate([(0, 2, 3), (1, 2, 3), (0, 3, 2), (0, 2), (0, 3), (2,), (0, 1, 3)])
    }
    for name, standings in relies.items():
        for ends_at in (None, NOW + timedelta(hours=1)):
            said = b"\r\n\r\n" + (b"the same" if len(standings) == 3 else name)
            kept.remember(
                name + str(ends_at).encode(),
                b"HTTP/1.1 200 OK\r\n",
                b"",
                said,
                Validity(standings, ends_at),
                kind,
            )

    def given() -> set[bytes]:
        return {
            name + str(ends_at).encode()
            for name in relies
            for ends_at in (None, NOW + timedelta(hours=1))
            if kept.answer(name + str(ends_at).encode(), []) is not None
        }

    assert len(given()) == 2 * len(relies)
    things[1].fall()
    left = {name for name, standings in relies.items() if things[1] not in standings}
    assert given() == {one + str(at).encode() for one in left for at in (None, NOW + timedelta(hours=1))}
    oracle.clock.move_to(NOW + timedelta(hours=1))
    assert given() == {one + b"None" for one in left}
    things[2].until = monotonic()
    left = {name for name in left if things[2] not in relies[name]}
    assert given() == {one + b"None" for one in left} != set()
    things[0].fall()
    assert given() == set()


async def test_no_two_answers_have_one_request_id() -> None:
    oracle = Oracle()
    oracle.recall.remember(b"?", b"", b"", b"", Validity((Standing(),), None), ("GET /told", 200, None))
    ids = []
    for _ in range(3):
        ids += [oracle.recall.answer(b"?", []) for _ in range(1000)]
        oracle.recall.tell()
    assert len({*ids}) == 3000
    assert all(re.fullmatch(rb"req_[0-9a-f]{24}", one or b"") for one in ids)
