"""The protocol as a pure function: whatever a client sends is commands or a refusal, and what we write reads back."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.realtime import protocol
from nozle_server.realtime.model import Position, Publication
from nozle_server.realtime.protocol import (
    BadFrame,
    Command,
    Connect,
    Refresh,
    Send,
    SubRefresh,
    Subscribe,
    Unoffered,
    Unsubscribe,
    parse_message,
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b'{"id":1,"connect":{"token":"t","name":"js"}}', Command(1, Connect("t"))),
        (b'{"id":2,"subscribe":{"channel":"c"}}', Command(2, Subscribe("c"))),
        (
            b'{"id":3,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":18446744073709551615,"flag":1,"x":1}}',
            Command(3, Subscribe("c", True, "e", 2**64 - 1, 1)),
        ),
        (b'{"id":4,"unsubscribe":{"channel":"c"}}', Command(4, Unsubscribe("c"))),
        (b'{"id":5,"refresh":{"token":"t"}}', Command(5, Refresh("t"))),
        (b'{"id":6,"sub_refresh":{"channel":"c","token":"t"}}', Command(6, SubRefresh("c", "t"))),
        (b'{"id":7,"publish":{"channel":"c","data":{}}}', Command(7, Unoffered(protocol.PERMISSION_DENIED))),
        (b'{"id":7,"presence":{"channel":"c"}}', Command(7, Unoffered(protocol.NOT_AVAILABLE))),
        (b'{"id":7,"presence_stats":{"channel":"c"}}', Command(7, Unoffered(protocol.NOT_AVAILABLE))),
        (b'{"id":7,"history":{"channel":"c"}}', Command(7, Unoffered(protocol.NOT_AVAILABLE))),
        (b'{"id":7,"rpc":{"method":"m"}}', Command(7, Unoffered(protocol.METHOD_NOT_FOUND))),
        (b'{"send":{"data":{}}}', Command(0, Send())),
        (b'{"id":7,"send":{"data":{}}}', Command(7, Send())),
        (b"{}", Command(0, None)),
    ],
)
def test_commands_are_read(line: bytes, command: Command) -> None:
    assert parse_message(line) == [command]
    assert parse_message(line + b"\n" + line + b"\n") == [command, command]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n",
        b"[]",
        b"1",
        b"null",
        b"{",
        b"\xff",
        b'{"id":"1","connect":{}}',
        b'{"id":-1,"connect":{}}',
        b'{"id":4294967296,"connect":{}}',
        b'{"id":1.5,"connect":{}}',
        b'{"connect":{}}',
        b'{"id":1,"connect":{"token":1}}',
        b'{"id":1,"connect":{},"subscribe":{}}',
        b'{"id":1,"subscribe":{"channel":"c","offset":"7"}}',
        b'{"id":1,"unsubscribe":{}}',
        b'{"id":1}',
        b'{"id":1,"frobnicate":{}}',
        b'{"id":1,"subscribe":null}',
        b'{"id":1,"subscribe":{}}',
        b'{"id":1,"unsubscribe":{"channel":""}}',
        b'{"id":1,"sub_refresh":{"channel":""}}',
        b'{"id":1,"subscribe":{"channel":"c","offset":-1}}',
        b'{"id":1,"subscribe":{"channel":"c","offset":18446744073709551616}}',
        b'{"id":1,"subscribe":{"channel":"c","epoch":"\\u0000"}}',
        b'{"subscribe":{"channel":"c"}}',
        b"[" * 100_000,
        b"{}\n" * (protocol.MAX_COMMANDS + 1),
    ],
)
def test_everything_else_is_refused(message: bytes) -> None:
    with pytest.raises(BadFrame):
        parse_message(message)


@given(st.binary(max_size=200))
def test_any_bytes_are_commands_or_refused(message: bytes) -> None:
    with suppress(BadFrame):
        assert parse_message(message)


words = st.text('ab{}"\\ \n:', max_size=10)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
members = st.sampled_from(["channel", "token", "offset", "epoch", "recover", "x"])
json_values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(members, scalars, max_size=3)
methods = st.sampled_from(["connect", "subscribe", "unsubscribe", "refresh", "sub_refresh", "rpc", "id"])


@given(st.dictionaries(methods, json_values, max_size=3))
def test_any_json_is_commands_or_refused(command: dict[str, object]) -> None:
    try:
        [read] = parse_message(json.dumps(command).encode())
    except BadFrame:
        return
    assert read.id == command.get("id", 0)


publications = st.lists(
    st.builds(
        Publication,
        st.integers(1, 2**53),
        st.dictionaries(words, words, max_size=3).map(lambda data: json.dumps(data).encode()),
    ),
    max_size=4,
)


@given(publications.filter(bool), words)
def test_pushes_are_one_a_line_and_say_what_was_published(news: list[Publication], channel: str) -> None:
    lines = protocol.push_publications(channel, news).split(b"\n")
    assert [json.loads(line)["push"] for line in lines] == [
        {"channel": channel, "pub": {"data": json.loads(one.data), "offset": one.offset}} for one in news
    ]


@given(st.none() | st.integers(0, 9), st.none() | publications)
def test_a_subscribe_says_where_it_stands_and_whether_it_recovered(
    after: int | None, missed: list[Publication] | None
) -> None:
    """Who recovered stands where it was, and moves on with what it missed."""
    reply = protocol.subscribed(
        3, Position("e", 9), after=after, missed=missed if after is not None else None
    )
    result = json.loads(reply)["subscribe"]
    recovered = after is not None and missed is not None
    assert (result["recoverable"], result["positioned"], result["epoch"]) == (True, True, "e")
    assert result["offset"] == (after if recovered else 9)
    assert result.get("was_recovering", False) is (after is not None)
    assert result.get("recovered", False) is recovered
    assert len(result.get("publications", [])) == (len(missed or []) if recovered else 0)
