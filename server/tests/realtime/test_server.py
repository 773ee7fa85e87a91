"""The server over a real socket: who gets a token, who may join, and what every bad input is answered (C11, A14)."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nozle_server.api import web_socket
from nozle_server.bootstrap import Services
from nozle_server.identity.operations import revoke_key
from nozle_server.infra.retention import prune
from nozle_server.realtime import connection, gate, protocol, tokens
from nozle_server.realtime.model import Publication
from world import World, open_world

pytestmark = pytest.mark.database

WAITS_S = 20


class Talk:
    """A client that says exactly what it is told to."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, *commands: Any) -> None:
        await self.socket.send("\n".join(json.dumps(command) for command in commands))

    async def hear(self) -> Any:
        """The next reply or push, pings aside."""
        async with asyncio.timeout(WAITS_S):
            while (text := await self.socket.recv()) == "{}":
                pass
        return json.loads(text)

    async def ask(self, command: Any) -> Any:
        await self.say(command)
        return await self.hear()

    async def closed_with(self) -> int:
        try:
            while True:
                await self.hear()
        except ConnectionClosed as closing:
            return closing.rcvd.code if closing.rcvd else 1006

    async def join(self, token: str, channel: str, **more: object) -> Any:
        assert "connect" in await self.ask({"id": 1, "connect": {"token": token}})
        return await self.ask({"id": 2, "subscribe": {"channel": channel, **more}})


@asynccontextmanager
async def talking(url: str) -> AsyncIterator[Talk]:
    async with connect(url.replace("http", "ws") + "/connection/websocket", compression=None) as socket:
        yield Talk(socket)


async def token_for(world: World, customer: str | None = "acme", *, key: str | None = None) -> str:
    query = f"?customer_id={customer}" if customer else ""
    answer = await world.call("GET", f"/api/v1/auth/centrifugo-token{query}", key=key)
    assert answer.status == 200, answer.body
    return str(answer.json["token"])


def channel_of(world: World, customer: str = "acme") -> str:
    return f"customer:{world.org_id}:{customer}"


# Tokens.


async def test_the_token_comes_with_what_a_client_needs(world: World) -> None:
    answer = await world.call("GET", "/api/v1/auth/ws-token?customer_id=acme", headers={"host": "x.example"})
    assert answer.json["workspaceId"] == answer.json["workspace_id"] == str(world.org_id)
    assert answer.json["url"] == "ws://x.example/connection/websocket"


async def test_a_publishable_key_gets_a_customers_token_and_not_the_workspaces(world: World) -> None:
    await token_for(world, key=world.publishable)
    refused = await world.call("GET", "/api/v1/auth/centrifugo-token", key=world.publishable)
    assert (refused.status, refused.code) == (403, "workspace_channel_not_permitted")
    await world.settings(workspace_channel_for_publishable_keys=True)
    await token_for(world, None, key=world.publishable)


async def test_where_sessions_are_asked_for_only_the_customers_own_session_gets_a_token(world: World) -> None:
    await world.a_customer("acme")
    await world.a_customer("other")
    await world.settings(publishable_key_access="customer_session")
    made = await world.post("/api/v1/customer-sessions", {"customer_id": "acme"})
    session = {"X-Nozle-Customer-Session": made["customer_session"]["token"]}
    narrow = await world.post(
        "/api/v1/customer-sessions", {"customer_id": "acme", "scopes": ["credits:read"]}
    )
    wrong = {"X-Nozle-Customer-Session": narrow["customer_session"]["token"]}
    path = "/api/v1/auth/centrifugo-token"
    tried = [
        await world.call("GET", f"{path}{query}", key=world.publishable, headers=headers)
        for query, headers in (
            ("?customer_id=acme", session),
            ("?customer_id=acme", {}),
            ("?customer_id=acme", wrong),
            ("?customer_id=other", session),
            ("", session),
        )
    ]
    assert [answer.status for answer in tried] == [200, 403, 403, 403, 403]


# Connecting.


@pytest.mark.parametrize(
    "command",
    [
        {"id": 1, "subscribe": {"channel": "c"}},
        {"id": 1, "rpc": {}},
        {"id": 1, "refresh": {"token": "t"}},
        "no command",
        [],
    ],
)
async def test_the_first_command_connects_or_ends_the_connection(url: str, command: Any) -> None:
    async with talking(url) as talk:
        await talk.say(command)
        assert await talk.closed_with() == protocol.BAD_FRAME.code


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "sk_test_1"])
async def test_without_a_token_of_ours_nobody_connects(url: str, token: str) -> None:
    async with talking(url) as talk:
        await talk.say({"id": 1, "connect": {"token": token}})
        assert await talk.closed_with() == protocol.INVALID_TOKEN.code


async def test_a_key_for_the_api_opens_no_socket_and_a_token_for_sockets_no_api(
    world: World, url: str
) -> None:
    """A14."""
    async with talking(url) as talk:
        await talk.say({"id": 1, "connect": {"token": world.secret}})
        assert await talk.closed_with() == protocol.INVALID_TOKEN.code
    answer = await world.call("GET", "/api/v1/can?customer_id=a&feature=b", key=await token_for(world))
    assert answer.status == 401


async def test_a_revoked_keys_tokens_are_refused(world: World, serving: Services, url: str) -> None:
    """C11: to connect, and to join."""
    token = await token_for(world)
    async with talking(url) as talk:
        assert "connect" in await talk.ask({"id": 1, "connect": {"token": token}})
        [row] = await world.fetch("select id from api_keys where org_id = $1 and kind = 'secret'")
        async with serving.database.transaction() as tx:
            await revoke_key(tx, org_id=world.org_id, key_id=row["id"], now=serving.clock.now())
        await talk.say({"id": 2, "subscribe": {"channel": channel_of(world)}})
        assert await talk.closed_with() == protocol.INVALID_TOKEN.code
    async with talking(url) as talk:
        await talk.say({"id": 1, "connect": {"token": token}})
        assert await talk.closed_with() == protocol.INVALID_TOKEN.code


async def test_a_revoked_key_ends_the_connections_made_with_it(
    world: World, serving: Services, url: str
) -> None:
    """C11: those that live, though they say nothing; and no others."""
    other = await open_world(world.client, world.services)
    async with talking(url) as mine, talking(url) as idle, talking(url) as others:
        await mine.join(await token_for(world), channel_of(world))
        assert "connect" in await idle.ask({"id": 1, "connect": {"token": await token_for(world)}})
        await others.join(await token_for(other), channel_of(other))
        [row] = await world.fetch("select id from api_keys where org_id = $1 and kind = 'secret'")
        async with serving.database.transaction() as tx:
            await revoke_key(tx, org_id=world.org_id, key_id=row["id"], now=serving.clock.now())
        for talk in (mine, idle):
            assert await talk.closed_with() == protocol.INVALID_TOKEN.code
        renewed = await others.ask({"id": 9, "refresh": {"token": await token_for(other)}})
        assert "refresh" in renewed
    assert not serving.realtime.gate._inside


async def test_a_connection_stays_for_the_key_of_its_latest_token(
    world: World, serving: Services, url: str
) -> None:
    """C11: a token renewed with another key: the first key's end is not this connection's."""
    async with talking(url) as talk:
        await talk.join(await token_for(world, key=world.publishable), channel_of(world))
        renewed = await talk.ask({"id": 3, "refresh": {"token": await token_for(world)}})
        assert "refresh" in renewed
        for kind, ended in (("publishable", False), ("secret", True)):
            [row] = await world.fetch("select id from api_keys where org_id = $1 and kind = $2", kind)
            async with serving.database.transaction() as tx:
                await revoke_key(tx, org_id=world.org_id, key_id=row["id"], now=serving.clock.now())
            if ended:
                assert await talk.closed_with() == protocol.INVALID_TOKEN.code
            else:
                await asyncio.sleep(2 * gate.CHECK_EVERY_S)
                assert "error" in await talk.ask({"id": 4, "rpc": {}})


async def test_a_token_that_is_not_renewed_ends_its_connection(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C11: as Centrifugo does it, a little after its end and with a code after which clients come back."""
    monkeypatch.setattr(tokens, "LIFETIME", timedelta(seconds=2))
    monkeypatch.setattr(connection, "EXPIRY_GRACE_S", 0.2)
    token = await token_for(world)
    async with talking(url) as talk:
        await talk.join(token, channel_of(world))
        assert await talk.closed_with() == protocol.EXPIRED.code
    async with talking(url) as talk:
        late = await talk.ask({"id": 1, "connect": {"token": token}})
        assert late["error"]["code"] == protocol.TOKEN_EXPIRED.code


async def test_who_renews_with_a_token_that_is_over_comes_back_for_another(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official clients take an error for the end of it and would stay away."""
    monkeypatch.setattr(tokens, "LIFETIME", timedelta(seconds=-10))
    over = await token_for(world)
    monkeypatch.undo()
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        await talk.say({"id": 3, "refresh": {"token": over}})
        assert await talk.closed_with() == protocol.EXPIRED.code


async def test_who_was_away_for_a_minute_fetches_what_it_missed(
    world: World, serving: Services, url: str
) -> None:
    """C11: by its place in the history, which the hourly clearing leaves alone."""
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(code="free")
    await world.a_plan(entitlements={"sso": {}})
    await world.a_customer()
    await world.subscribe("acme", "free")
    async with talking(url) as talk:
        joined = (await talk.join(await token_for(world), channel_of(world)))["subscribe"]
    await world.change_plan("acme", "pro")
    await prune(serving.database, serving.clock.now() + timedelta(seconds=60))
    async with talking(url) as talk:
        reply = await talk.join(
            await token_for(world),
            channel_of(world),
            recover=True,
            epoch=joined["epoch"],
            offset=joined["offset"],
        )
        back = reply["subscribe"]
        assert (back["was_recovering"], back["recovered"]) == (True, True)
        assert [one["data"]["allowed"] for one in back["publications"]] == [True]


async def test_who_never_connects_is_closed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_WITHIN_S", 0.05)
    async with talking(url) as talk:
        assert await talk.closed_with() == protocol.STALE.code


async def test_who_answers_no_ping_is_closed(world: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(connection, "PONG_WITHIN_S", 0.05)
    async with talking(url) as talk:
        await talk.say({"id": 1, "connect": {"token": await token_for(world)}})
        assert await talk.closed_with() == protocol.NO_PONG.code


# Joining.


async def test_only_the_tokens_channels_can_be_joined(world: World, url: str) -> None:
    """C11: not another customer's, not the organization's, not another tenant's, not one there is not."""
    other = await open_world(world.client, world.services)
    async with talking(url) as talk:
        refused = await talk.join(await token_for(world), channel_of(world, "other"))
        assert refused["error"]["code"] == 103
        for channel, code in (
            (f"workspace:{world.org_id}:entitlements", 103),
            (channel_of(other), 103),
            (f"workspace:{other.org_id}:entitlements", 103),
            ("other:channel", 102),
        ):
            reply = await talk.ask({"id": 3, "subscribe": {"channel": channel}})
            assert reply["error"]["code"] == code, channel
        assert "subscribe" in await talk.ask({"id": 4, "subscribe": {"channel": channel_of(world)}})
        again = await talk.ask({"id": 5, "subscribe": {"channel": channel_of(world)}})
        assert again["error"]["code"] == 105


async def test_leaving_ends_the_news(world: World, url: str) -> None:
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        left = await talk.ask({"id": 3, "unsubscribe": {"channel": channel_of(world)}})
        assert left == {"id": 3, "unsubscribe": {}}
        await world.a_feature(code="sso", metric=None)
        await world.a_plan(entitlements={"sso": {}})
        await world.a_customer()
        await world.subscribe("acme", "pro")
        # Joining again brings what happened meanwhile into the history, and a reply is the next thing that is heard.
        back = await talk.ask({"id": 4, "subscribe": {"channel": channel_of(world)}})
        assert back["id"] == 4
        assert back["subscribe"]["offset"] == 1


async def test_a_client_from_another_epoch_is_told_to_fetch_anew(world: World, url: str) -> None:
    async with talking(url) as talk:
        reply = await talk.join(
            await token_for(world), channel_of(world), recover=True, epoch="gone", offset=3
        )
        assert (reply["subscribe"]["was_recovering"], reply["subscribe"]["recovered"]) == (True, False)


async def test_who_recovers_stands_where_it_was_and_is_given_the_rest(world: World, url: str) -> None:
    """A client that is cut off again while it handles what it missed would lose what it has not come to. One that knows no
    epoch recovers by its offset, and one that asks for all or nothing is refused where it cannot have all."""
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(code="free")
    await world.a_plan(entitlements={"sso": {}})
    await world.a_customer()
    await world.subscribe("acme", "free")
    token, channel = await token_for(world), channel_of(world)
    async with talking(url) as talk:
        epoch = (await talk.join(token, channel))["subscribe"]["epoch"]
    await world.change_plan("acme", "pro")
    for position in ({"epoch": epoch, "offset": 0}, {"offset": 0}, {}):
        async with talking(url) as talk:
            back = (await talk.join(token, channel, recover=True, **position))["subscribe"]
            assert (back["recovered"], back["offset"]) == (True, 0), position
            assert [one["offset"] for one in back["publications"]] == [1]
    for position, flag in (({"epoch": "gone", "offset": 1}, 1), ({"epoch": epoch, "offset": 2**64 - 1}, 0)):
        async with talking(url) as talk:
            back = (await talk.join(token, channel, recover=True, flag=flag, **position))["subscribe"]
            assert (back["recovered"], back["offset"], "publications" in back) == (False, 1, False)
    async with talking(url) as talk:
        refused = await talk.join(token, channel, recover=True, flag=2, epoch="gone", offset=1)
        assert refused["error"] == {"code": 112, "message": "unrecoverable position"}
        again = await talk.ask(
            {
                "id": 3,
                "subscribe": {"channel": channel, "recover": True, "flag": 2, "epoch": epoch, "offset": 1},
            }
        )
        assert again["subscribe"]["recovered"] is True


async def test_who_is_connected_when_the_history_is_lost_is_told(
    world: World, serving: Services, url: str
) -> None:
    """After a crash of the database the channels are empty: their listeners subscribe again, and fetch."""
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(entitlements={"sso": {}})
    await world.a_customer()
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        async with serving.database.transaction() as tx:
            await tx.execute("delete from realtime_channels where org_id = $1", world.org_id)
        await world.subscribe("acme", "pro")
        push = (await talk.hear())["push"]
        assert push == {
            "channel": channel_of(world),
            "unsubscribe": {"code": 2500, "reason": "insufficient state"},
        }
        back = await talk.ask({"id": 3, "subscribe": {"channel": channel_of(world)}})
        assert "subscribe" in back


async def test_a_token_is_renewed_on_the_connection(world: World, url: str) -> None:
    other = await open_world(world.client, world.services)
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        reply = await talk.ask({"id": 3, "refresh": {"token": await token_for(world)}})
        assert reply["refresh"].keys() == {"expires", "ttl"}
        assert reply["refresh"]["expires"] is True
        assert 0 < reply["refresh"]["ttl"] <= 3600
        await talk.say({"id": 4, "refresh": {"token": await token_for(other)}})
        assert await talk.closed_with() == protocol.INVALID_TOKEN.code


async def test_what_we_do_not_offer_is_said_so(world: World, url: str) -> None:
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        for method, code in (
            ("publish", 103),
            ("presence", 108),
            ("presence_stats", 108),
            ("history", 108),
            ("rpc", 104),
            ("sub_refresh", 108),
        ):
            reply = await talk.ask({"id": 7, method: {"channel": channel_of(world)}})
            assert (reply["id"], reply["error"]["code"]) == (7, code), method
        elsewhere = await talk.ask({"id": 8, "sub_refresh": {"channel": channel_of(world, "other")}})
        assert elsewhere["error"]["code"] == 103
        kind = await talk.ask({"id": 9, "subscribe": {"channel": channel_of(world), "type": 1}})
        assert kind["error"]["code"] == 107


async def test_a_message_that_wants_no_reply_has_nobody_to_hear_it(world: World, url: str) -> None:
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        await talk.say({"send": {"data": {}}})
        assert await talk.closed_with() == 3508


@pytest.mark.parametrize("command", [{"id": 3, "frobnicate": {}}, {"id": 3}, {"id": 3, "subscribe": {}}, {}])
async def test_what_is_no_command_ends_the_connection(world: World, url: str, command: Any) -> None:
    """An answer to no ping is none either."""
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        await talk.say(command)
        assert await talk.closed_with() == protocol.BAD_FRAME.code


# Bounds.


async def test_a_message_that_is_too_long_ends_the_connection(url: str) -> None:
    async with talking(url) as talk:
        await talk.socket.send("x" * (web_socket.MAX_MESSAGE_BYTES + 1))
        assert await talk.closed_with() == 1009


async def test_a_flood_of_commands_ends_the_connection(world: World, url: str) -> None:
    async with talking(url) as talk:
        await talk.say({"id": 1, "connect": {"token": await token_for(world)}})
        for _ in range(connection.MAX_PENDING // protocol.MAX_COMMANDS + 2):
            await talk.say(*[{"id": 2, "subscribe": {"channel": channel_of(world)}}] * protocol.MAX_COMMANDS)
        assert await talk.closed_with() == protocol.TOO_MANY_COMMANDS.code


async def test_a_reader_that_does_not_read_is_cut(
    world: World, serving: Services, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L04: at a bounded buffer, and the others hear on."""
    monkeypatch.setattr(web_socket, "MAX_UNSENT_BYTES", 0)
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(entitlements={"sso": {}})
    await world.a_customer()
    async with talking(url) as slow, talking(url) as quick:
        await slow.join(await token_for(world), channel_of(world))
        slow.socket.transport.pause_reading()
        await quick.join(await token_for(world), channel_of(world))
        # What fills the socket of the one is sent past the other.
        [stuffed] = [
            one
            for local in serving.realtime.hub._locals.values()
            for one in local.listeners
            if one._transport._transport.get_extra_info("peername")  # type: ignore[attr-defined]
            == slow.socket.local_address
        ]
        filler = b'{"push":{}}' * 100_000
        while stuffed._transport._transport.get_write_buffer_size() == 0:  # type: ignore[attr-defined]
            stuffed._transport._transport.write(filler)  # type: ignore[attr-defined]
        await world.subscribe("acme", "pro")
        assert (await quick.hear())["push"]["pub"]["data"]["feature"] == "sso"
        assert stuffed._transport._transport.is_closing()  # type: ignore[attr-defined]


async def test_what_waits_for_a_reader_that_does_not_read_is_bounded(
    world: World, serving: Services, url: str
) -> None:
    """L04: a socket from which nobody ever reads again, and as much for it as it takes."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    async with talking(url) as quick:
        await quick.join(await token_for(world), channel_of(world))
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, (host, int(port)))
            address = deaf.getsockname()
            async with connect(
                f"ws://{host}:{port}/connection/websocket", sock=deaf, compression=None, close_timeout=0
            ) as client:
                await Talk(client).join(await token_for(world), channel_of(world))
                client.transport.pause_reading()
                [local] = serving.realtime.hub._locals.values()  # type: ignore[union-attr]
                [stuffed] = [
                    one._transport._transport  # type: ignore[attr-defined]
                    for one in local.listeners
                    if one._transport._transport.get_extra_info("peername") == address  # type: ignore[attr-defined]
                ]
                stuffed.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                data, most = b'"' + b"x" * 16_000 + b'"', 0
                while not stuffed.is_closing():
                    offset = local.position.offset + 1
                    serving.realtime.hub._tell(local, [Publication(offset, data)])  # type: ignore[union-attr]
                    most = max(most, stuffed.get_write_buffer_size())
                    assert (await quick.hear())["push"]["pub"]["offset"] == offset
                    assert offset < 1000, "it is never cut"
        assert web_socket.MAX_UNSENT_BYTES < most < web_socket.MAX_UNSENT_BYTES + 2 * len(data)
        async with asyncio.timeout(WAITS_S):
            while len(local.listeners) > 1:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


# The one path.


@pytest.mark.parametrize(
    ("offered", "taken"),
    [(["centrifuge-json"], "centrifuge-json"), (["x", "centrifuge-json"], "centrifuge-json"), (["x"], None)],
)
async def test_a_client_that_names_the_protocol_is_told_that_it_is_spoken(
    url: str, offered: list[Any], taken: str | None
) -> None:
    address = url.replace("http", "ws") + "/connection/websocket"
    async with connect(address, subprotocols=offered, compression=None) as client:
        assert client.subprotocol == taken


@pytest.mark.parametrize("path", ["/", "/connection", "/connection/websocket/", "/api/v1/can", "/health"])
async def test_no_other_path_becomes_a_socket(url: str, path: str) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(url.replace("http", "ws") + path):
            pass


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /connection/websocket HTTP/1.1\r\nContent-Length: %d\r\n",
        b"GET /connection/websocket HTTP/1.1\r\nContent-Length: %d\r\n",
        b"GET /connection/websocket HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: %d\r\n",
        b"GET /connection/websocket HTTP/1.0\r\nX: %d\r\n",
    ],
)
async def test_only_a_plain_get_becomes_a_socket(url: str, request_head: bytes) -> None:
    """B08: nothing that could carry a body, which would then be read as frames or as a request."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        request_head % len(inner) + b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + inner
    )
    answer = b""
    try:
        async with asyncio.timeout(1):
            while data := await reader.read(65536):
                answer += data
    except TimeoutError:
        pass
    writer.close()
    assert answer.startswith(b"HTTP/1.1 4")
    assert b" 101 " not in answer


async def test_a_request_behind_the_handshake_is_not_a_request(url: str) -> None:
    """What follows the handshake is frames, whatever it looks like."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    async with asyncio.timeout(WAITS_S):
        answer = await reader.read()
    writer.close()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 101 ")


async def test_a_server_that_leaves_says_so(serving: Services, world: World, url: str) -> None:
    async with talking(url) as talk:
        await talk.join(await token_for(world), channel_of(world))
        [local] = serving.realtime.hub._locals.values()
        for listener in tuple(local.listeners):
            listener._transport.shutdown()  # type: ignore[attr-defined]
        assert await talk.closed_with() == protocol.SHUTDOWN.code
