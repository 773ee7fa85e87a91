"""The external broker against a stand-in for Centrifugo's server API (no Centrifugo can be had from the package registries):
what is committed reaches every channel for which a token lives, in order, whatever happens to Centrifugo or to a process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import asyncpg
import jwt
import pytest
from aiohttp import web
from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nozle_server.api.app import build_app
from nozle_server.api.server import serve
from nozle_server.bootstrap import Services, background, build_services
from nozle_server.core.clock import SystemClock
from nozle_server.core.ids import new_id
from nozle_server.identity.operations import revoke_key
from nozle_server.infra.database import Database
from nozle_server.infra.retention import prune
from nozle_server.infra.settings import Settings
from nozle_server.realtime import audience_store, centrifugo, centrifugo_api, store
from nozle_server.realtime.flips import Told, Urgency, urgency
from world import Client, World, open_world

from .fake_centrifugo import KEY, FakeCentrifugo, standing_in
from .official_server_client import check
from .test_server import channel_of, token_for
from .test_time import SOON, a_shop, change

pytestmark = pytest.mark.database

SECRET = "a secret of thirty-two characters"
PROXY = "/api/v1/realtime/centrifugo/subscribe"


@pytest.fixture
async def fake() -> AsyncIterator[FakeCentrifugo]:
    """Whatever it was asked is as the official client would have asked."""
    async with standing_in() as fake:
        yield fake
    for request in fake.requests:
        check(request)


def settings_for(url: str, **more: object) -> Settings:
    return Settings.model_validate(
        {
            "CENTRIFUGO_URL": url,
            "CENTRIFUGO_API_KEY": KEY,
            "CENTRIFUGO_TOKEN_HMAC_SECRET": SECRET,
            **more,
        }
    )


@pytest.fixture
async def process(database_url: str, fake: FakeCentrifugo) -> AsyncIterator[Callable[[], Any]]:
    """Makes processes: each its own services, with the news coming in, and what ends it."""
    async with AsyncExitStack() as stack:
        # Keys that other tests revoked, and channels to which their tokens live on: what was left untold there would be
        # told here too, amid what is counted.
        connection = await asyncpg.connect(database_url)
        await connection.execute("update api_keys set revoked_at = revoked_at - interval '1 day'")
        await connection.execute("delete from realtime_audiences")
        await connection.close()

        async def make() -> tuple[Services, AsyncExitStack]:
            own = await stack.enter_async_context(AsyncExitStack())
            database = await Database.connect(database_url, connections=8, reserve=4)
            own.push_async_callback(database.close)
            services = build_services(database, settings_for(fake.url), SystemClock())
            await own.enter_async_context(background(services, jobs=False))
            return services, own

        yield make


@pytest.fixture
async def serving(process: Callable[[], Any]) -> Services:
    services, _ = await process()
    return services  # type: ignore[no-any-return]


@pytest.fixture
async def world(serving: Services) -> World:
    return await open_world(Client(build_app(serving)), serving)


@pytest.fixture
async def shop(world: World) -> World:
    """Plan `free` has no feature, `pro` has `sso`; acme is on `free`."""
    await world.a_feature(code="sso", metric=None)
    await world.a_plan(code="free")
    await world.a_plan(code="pro", entitlements={"sso": {}})
    await world.a_customer()
    await world.subscribe("acme", "free")
    return world


async def test_a_change_reaches_the_channels_for_which_tokens_live(shop: World, fake: FakeCentrifugo) -> None:
    """Once each; and none for customers whose token nobody has."""
    await shop.a_customer("other")
    mine, everybodys = channel_of(shop), f"workspace:{shop.org_id}:entitlements"
    await token_for(shop)
    await token_for(shop, None)
    await shop.change_plan("acme", "pro")
    for channel in (mine, everybodys):
        await fake.until(lambda channel=channel: fake.heard(channel, feature="sso", allowed=True))
        assert len(fake.heard(channel, feature="sso", allowed=True)) == 1
    await shop.subscribe("other", "pro")
    await fake.until(lambda: fake.heard(everybodys, customer_id="other", allowed=True))
    assert set(fake.histories) == {mine, everybodys}
    assert all(one["publish"]["idempotency_key"] for one in fake.commands)


async def test_without_a_living_token_nothing_is_published(
    shop: World, fake: FakeCentrifugo, serving: Services
) -> None:
    await token_for(shop)
    async with serving.database.transaction() as tx:
        await tx.execute("update realtime_audiences set until = now() where org_id = $1", shop.org_id)
    broker = serving.realtime.broker
    assert isinstance(broker, centrifugo.CentrifugoBroker)
    for audience in broker._audiences.values():
        audience.update(dict.fromkeys(audience, serving.clock.now()))
    broker._forget_lapsed()
    assert shop.org_id not in broker._audiences
    before = len(fake.commands)
    await shop.change_plan("acme", "pro")
    await token_for(shop, "sentinel")
    await shop.a_customer("sentinel")
    await shop.subscribe("sentinel", "pro")
    await fake.until(lambda: fake.heard(channel_of(shop, "sentinel"), allowed=True))
    told = [one["publish"]["channel"] for one in fake.commands[before:]]
    assert channel_of(shop) not in told
    await prune(serving.database, serving.clock.now())
    rows = await shop.fetch("select channel from realtime_audiences where org_id = $1")
    assert [row["channel"] for row in rows] == [channel_of(shop, "sentinel")]


async def test_what_ends_by_time_alone_is_told(world: World, fake: FakeCentrifugo) -> None:
    """C02."""
    shop = await a_shop(world)
    await change(shop, f"ending_at = {SOON}")
    await token_for(shop)
    await fake.until(lambda: fake.heard(channel_of(shop), feature="chat", reason="subscription_expired"))


# What may happen to Centrifugo.


def _answering(status: int = 200, body: bytes = b"") -> Callable[..., web.Response]:
    return lambda *_: web.Response(status=status, body=body, content_type="application/json")


def _never(*_: object) -> Any:
    return asyncio.sleep(5)


@pytest.mark.parametrize(
    "fault",
    [
        _answering(500),
        _answering(401),
        _answering(302),
        _answering(body=b"<html>"),
        _answering(body=b"{}"),
        _answering(body=b'{"replies":[]}'),
        _answering(body=b'{"replies":[{"error":{"code":"x"}}]}'),
        _never,
    ],
    ids=["500", "401", "302", "html", "object", "too-few", "misshaped", "silent"],
)
async def test_what_changes_while_centrifugo_fails_is_told_when_it_is_back(
    shop: World, fake: FakeCentrifugo, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are answered meanwhile, and what is told in the end is how things are."""
    monkeypatch.setattr(centrifugo_api, "TIMEOUT_S", 0.3)
    await token_for(shop)
    fake.fault = fault
    for plan in ("pro", "free", "pro"):
        await shop.change_plan("acme", plan)
        await asyncio.sleep(0.2)
    asked = len(fake.commands)
    await fake.until(lambda: len(fake.commands) > asked)
    assert not fake.heard(channel_of(shop), allowed=True)
    fake.fault = lambda *_: None
    await fake.until(lambda: fake.heard(channel_of(shop), feature="sso", allowed=True))
    assert fake.histories[channel_of(shop)][-1]["allowed"] is True


async def test_what_changes_while_centrifugo_is_away_is_told_when_it_is_back(
    shop: World, fake: FakeCentrifugo
) -> None:
    await token_for(shop)
    await fake.stop()
    await shop.change_plan("acme", "pro")
    await asyncio.sleep(0.5)
    await fake.start()
    await fake.until(lambda: fake.heard(channel_of(shop), feature="sso", allowed=True))


async def test_a_lost_answer_is_no_second_publication(shop: World, fake: FakeCentrifugo) -> None:
    """It published, and nobody heard: the same key again."""
    await token_for(shop)
    lost: list[str] = []

    def lose(when: str, _: object) -> Any:
        if when == "after" and len(lost) < 2:
            lost.append(when)
            return web.Response(status=502)
        return None

    fake.fault = lose
    await shop.change_plan("acme", "pro")
    await fake.until(lambda: len(lost) == 2)
    await shop.change_plan("acme", "free")
    await fake.until(lambda: fake.heard(channel_of(shop), feature="sso", allowed=False))
    told = [one["allowed"] for one in fake.heard(channel_of(shop), feature="sso")]
    assert told == [True, False], "each once, in order"
    await _once(lambda: not shop.services.realtime.broker._doubts)  # type: ignore[attr-defined]
    keys = [one["publish"]["idempotency_key"] for one in fake.commands]
    assert len(keys) > len(set(keys)), "it was tried again"


async def test_a_change_taken_back_before_its_answer_is_told_too(shop: World, fake: FakeCentrifugo) -> None:
    """It may have been told that the gate is open; so it is told that it is closed."""
    await shop.change_plan("acme", "pro")
    await token_for(shop)
    await fake.until(lambda: fake.heard(channel_of(shop), allowed=True))
    fake.fault = lambda when, _: web.Response(status=504) if when == "after" else None
    await shop.change_plan("acme", "free")
    await fake.until(lambda: fake.heard(channel_of(shop), allowed=False))
    await shop.change_plan("acme", "pro")
    fake.fault = lambda *_: None
    await fake.until(lambda: len(fake.heard(channel_of(shop), allowed=True)) == 2)
    assert fake.histories[channel_of(shop)][-1]["allowed"] is True


async def test_a_refused_command_is_tried_again_where_that_may_help(
    shop: World, fake: FakeCentrifugo
) -> None:
    """100 is; 102, 107 and 108 are what somebody has to configure, and hold up nobody else."""
    codes = [100, 100]
    fake.refuse = lambda _: codes.pop() if codes else None
    await token_for(shop)
    await shop.change_plan("acme", "pro")
    await fake.until(lambda: fake.heard(channel_of(shop), feature="sso", allowed=True))
    for code in (102, 107, 108):
        refused: list[Any] = []

        def refuse(command: Any, code: int = code, refused: list[Any] = refused) -> int:
            refused.append(command)
            return code

        fake.refuse = refuse
        name = f"c{code}"
        await shop.a_customer(name)
        await token_for(shop, name)
        await shop.subscribe(name, "pro")
        await fake.until(lambda refused=refused: refused)
        tried = len(refused)
        await asyncio.sleep(2.5 * centrifugo.PAUSE_S)
        assert len(refused) == tried


# What may happen to a process.


async def test_one_process_tells_and_another_takes_over(
    process: Callable[[], Any], serving: Services, shop: World, fake: FakeCentrifugo
) -> None:
    """A token that any of them handed out; what changed while nobody told is told by the next."""
    other, _ = await process()
    third, _ = await process()
    brokers = [one.realtime.broker for one in (serving, other, third)]
    await token_for(shop)
    await shop.change_plan("acme", "pro")
    await fake.until(lambda: fake.heard(channel_of(shop), feature="sso", allowed=True))
    assert [broker._leads() for broker in brokers].count(True) == 1
    [leader] = [broker for broker in brokers if broker._leads()]
    # It loses the lease, as if it were dead: what is left has to pass, and nobody tells until then.
    async with shop.database.transaction() as tx:
        await tx.execute("update server_leases set holder = gen_random_uuid()")
    await _once(lambda: not leader._leads())
    await shop.change_plan("acme", "free")
    await fake.until(lambda: fake.heard(channel_of(shop), feature="sso", allowed=False))
    assert [one["allowed"] for one in fake.heard(channel_of(shop), feature="sso")] == [True, False]


async def test_a_process_that_stops_gives_the_lease_up(
    process: Callable[[], Any], fake: FakeCentrifugo, database: Database
) -> None:
    services, own = await process()
    world = await open_world(Client(build_app(services)), services)
    await world.a_customer()
    await token_for(world)
    await _once(lambda: services.realtime.broker._leads())
    await own.aclose()
    async with database.transaction() as tx:
        taken = await audience_store.take_lease(tx, centrifugo.LEASE, world.org_id, centrifugo.GRACE)
        await tx.execute("delete from server_leases")
    assert taken


async def _once(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


# Who may come in.


async def test_clients_are_sent_to_centrifugo_and_not_taken_here(
    shop: World, serving: Services, fake: FakeCentrifugo
) -> None:
    answer = await shop.get("/api/v1/auth/centrifugo-token", customer_id="acme")
    assert answer["url"] == f"ws://127.0.0.1:{fake.port}/connection/websocket"
    claims = jwt.decode(answer["token"], SECRET, algorithms=["HS256"], audience="nozle:realtime")
    assert claims["meta"]["allow"] == [channel_of(shop)]
    assert claims["sub"].startswith("customer:")
    stop: asyncio.Event = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(
        serve(build_app(serving), host="127.0.0.1", port=0, stop=stop, on_listening=listening.set_result)
    )
    url = (await listening).replace("http", "ws")
    with pytest.raises(InvalidStatus):
        async with connect(f"{url}/connection/websocket"):
            pass
    stop.set()
    await running


async def test_the_subscribe_proxy_lets_in_whom_the_token_names_while_its_key_lives(
    shop: World, serving: Services, fake: FakeCentrifugo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C11, as Centrifugo asks: it has verified the token, whose `meta` it shows."""
    monkeypatch.setattr(centrifugo, "AGAIN_AFTER_S", 0.5)
    [key] = await shop.fetch("select id from api_keys where org_id = $1 and kind = 'secret'")
    mine = channel_of(shop)
    meta = {"key": str(key["id"]), "allow": [mine]}

    async def ask(channel: str, meta: object, shown: str = KEY) -> tuple[int, Any]:
        body = {"client": "c", "user": "u", "transport": "websocket", "channel": channel, "meta": meta}
        answer = await shop.call("POST", PROXY, body, headers={"X-API-Key": shown})
        return answer.status, answer.json

    denied = (200, {"error": {"code": 403, "message": "permission denied"}})
    assert await ask(mine, meta) == (200, {"result": {}})
    assert await ask(channel_of(shop, "other"), meta) == denied
    assert await ask(f"workspace:{shop.org_id}:entitlements", meta) == denied
    assert await ask("chat:index", {**meta, "allow": ["chat:index"]}) == denied
    assert await ask(mine, None) == denied
    assert (await ask(mine, meta, shown="wrong"))[0] == 401
    async with serving.database.transaction() as tx:
        await revoke_key(tx, org_id=shop.org_id, key_id=key["id"], now=serving.clock.now())
    status, answer = await ask(mine, meta)
    assert (status, answer["disconnect"]["code"]) == (200, 4501)
    users = {f"customer:{key['id']}", f"workspace:{key['id']}"}
    # And once more a little later, for who was let in at the very moment.
    await fake.until(lambda: all(fake.disconnected.count(user) == 2 for user in users))


async def test_only_an_installation_with_a_centrifugo_answers_its_proxy(database_url: str) -> None:
    database = await Database.connect(database_url, connections=4, reserve=2)
    services = build_services(database, Settings(), SystemClock())
    world = await open_world(Client(build_app(services)), services)
    answer = await world.call("POST", PROXY, {"channel": "c"}, headers={"X-API-Key": ""})
    assert answer.status == 401
    await database.close()


def test_the_settings_go_together() -> None:
    with pytest.raises(ValidationError, match="CENTRIFUGO_API_KEY"):
        Settings.model_validate({"CENTRIFUGO_URL": "http://x", "CENTRIFUGO_TOKEN_HMAC_SECRET": SECRET})
    assert settings_for("http://x/").centrifugo_url == "http://x"


async def test_who_lost_the_lease_while_it_looked_notes_nothing_as_told(
    shop: World, fake: FakeCentrifugo, serving: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database stalled until the lease was another's: what was found is found again, and told then."""
    await token_for(shop)
    broker = serving.realtime.broker
    assert isinstance(broker, centrifugo.CentrifugoBroker)
    await fake.until(lambda: broker._leads())
    find = broker._find
    lost = asyncio.Event()

    async def find_slowly(*arguments: Any) -> Any:
        found = await find(*arguments)
        if found.telling and not lost.is_set():
            broker._leads_until = 0.0
            lost.set()
        return found

    monkeypatch.setattr(broker, "_find", find_slowly)
    await shop.change_plan("acme", "pro")
    await lost.wait()
    await fake.until(lambda: fake.heard(channel_of(shop), feature="sso", allowed=True))


async def test_a_feature_that_goes_for_good_while_centrifugo_fails_is_told_when_it_is_back(
    shop: World, fake: FakeCentrifugo, serving: Services
) -> None:
    """Nothing but what was told before remembers that there was one."""
    mine = channel_of(shop)
    await token_for(shop)
    await shop.change_plan("acme", "pro")
    await fake.until(lambda: fake.heard(mine, feature="sso", allowed=True))
    await _once(lambda: mine not in serving.realtime.broker._doubts)  # type: ignore[attr-defined]
    fake.fault = _answering(500)
    answer = await shop.call("DELETE", "/core/api/v1/features/sso")
    assert answer.status == 200, answer.body
    await fake.until(lambda: any(one["publish"]["data"]["allowed"] is False for one in fake.commands))
    fake.fault = lambda *_: None
    await fake.until(lambda: fake.heard(mine, feature="sso", allowed=False))


async def test_who_notes_late_what_another_has_told_since_notes_nothing(world: World) -> None:
    """Two processes told of one channel, one after the other; the first stalled before it noted what it had told."""
    name = channel_of(world, "late")
    opened, closed = (
        Told(allowed, reason, Decimal(0), None, None, SystemClock().now())
        for allowed, reason in ((True, "included"), (False, "not_included"))
    )
    stalled, next_one = new_id(), new_id()
    async with world.database.transaction() as tx:
        await store.lock_channel(tx, world.org_id, name)
        await audience_store.doubt_told(tx, world.org_id, name, {"sso": opened}, stalled)
        doubted = (await store.read_told(tx, world.org_id, name))["sso"]
        assert urgency(doubted, opened) is Urgency.NOW, "nobody knows whether it was told"
        await audience_store.doubt_told(tx, world.org_id, name, {"sso": closed}, next_one)
        await audience_store.note_told(tx, world.org_id, name, {"sso": closed}, next_one)
        await audience_store.note_told(tx, world.org_id, name, {"sso": opened}, stalled)
        assert await store.read_told(tx, world.org_id, name) == {"sso": closed}
        assert urgency(closed, opened) is Urgency.NOW, "or its clients stay where they are"


async def test_who_leads_again_does_not_use_the_keys_of_before(
    shop: World, fake: FakeCentrifugo, serving: Services
) -> None:
    """Another process has told otherwise meanwhile: under the old key Centrifugo would take the news for old."""
    broker, mine = serving.realtime.broker, channel_of(shop)
    assert isinstance(broker, centrifugo.CentrifugoBroker)
    await token_for(shop)
    fake.fault = lambda when, _: web.Response(status=502) if when == "after" else None
    await shop.change_plan("acme", "pro")
    await fake.until(lambda: fake.heard(mine, feature="sso", allowed=True))
    async with shop.database.transaction() as tx:
        await tx.execute(
            "update server_leases set holder = gen_random_uuid(), until = now() + interval '1 hour'"
        )
    await _once(lambda: not broker._leads())
    closed = Told(False, "not_included", Decimal(0), None, None, SystemClock().now())
    async with shop.database.transaction() as tx:
        await store.lock_channel(tx, shop.org_id, mine)
        await store.write_told(tx, shop.org_id, mine, {"sso": closed})
        await tx.execute("delete from server_leases")
    fake.fault = lambda *_: None
    await fake.until(lambda: len(fake.heard(mine, feature="sso", allowed=True)) == 2)
