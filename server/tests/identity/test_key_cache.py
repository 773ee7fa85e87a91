"""A11, A12, A13: a key is looked up by hash, cached for a second, and dead a second after it was revoked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
import pytest

from nozle_server.core.errors import Unavailable
from nozle_server.core.ids import new_id
from nozle_server.core.standing import Standing
from nozle_server.identity import key_cache, store
from nozle_server.identity.key_cache import KeyCache
from nozle_server.identity.model import ApiKey, KeyKind, Mode, Organization, Principal
from nozle_server.identity.operations import create_organization, revoke_key, update_organization
from nozle_server.identity.tokens import hash_secret, new_key_text
from nozle_server.infra.database import Database, Tx

pytestmark = pytest.mark.database

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


Made = tuple[Organization, str, str]


class CountingDatabase:
    """Counts look-ups, can hold them back, and can be away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lookups = 0
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    @property
    def reserve(self) -> "CountingDatabase":
        return self

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        self.lookups += 1
        if self.away:
            raise Unavailable("away")
        async with self._database.connection() as connection:
            yield connection
            await self.open.wait()


class Ticker:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counting(database: Database) -> CountingDatabase:
    return CountingDatabase(database)


@pytest.fixture
def ticker() -> Ticker:
    return Ticker()


@pytest.fixture
def cache(counting: CountingDatabase, ticker: Ticker) -> KeyCache:
    return KeyCache(counting, monotonic=ticker)  # type: ignore[arg-type]


@pytest.fixture
async def made(database: Database) -> Made:
    async with database.transaction() as tx:
        return await create_organization(tx, name="Acme", mode=Mode.TEST, now=NOW)


async def _revoke(database: Database, cache: KeyCache, text: str) -> None:
    principal = await cache.find(text)
    assert principal is not None
    async with database.transaction() as tx:
        await revoke_key(tx, org_id=principal.org_id, key_id=principal.key_id, now=NOW)


async def test_a_key_speaks_for_its_organization(cache: KeyCache, made: Made) -> None:
    organization, secret, publishable = made
    for text, kind in ((secret, KeyKind.SECRET), (publishable, KeyKind.PUBLISHABLE)):
        principal = await cache.find(text)
        assert principal is not None
        assert (principal.org_id, principal.kind, principal.mode) == (organization.id, kind, Mode.TEST)


async def test_a_second_of_requests_is_one_query(
    cache: KeyCache, counting: CountingDatabase, ticker: Ticker, made: Made
) -> None:
    for text in (made[1], "sk_test_unknown"):
        counting.lookups = 0
        await asyncio.gather(*(cache.find(text) for _ in range(50)))
        ticker.now += 0.99
        await cache.find(text)
        assert counting.lookups == 1
        ticker.now += 0.02
        await cache.find(text)
        assert counting.lookups == 2


async def test_a_revoked_key_is_dead_a_second_later(
    cache: KeyCache, database: Database, ticker, made
) -> None:
    await _revoke(database, cache, made[1])
    assert await cache.find(made[1]) is not None
    ticker.now += 1.0
    assert await cache.find(made[1]) is None
    assert cache.last_known(made[1]) is None


async def test_a_notified_cache_forgets_at_once(cache: KeyCache, database: Database, made: Made) -> None:
    await _revoke(database, cache, made[1])
    cache.forget_all()
    assert await cache.find(made[1]) is None


async def test_an_answer_older_than_a_change_is_not_kept(
    cache: KeyCache, counting: CountingDatabase, database, made: Made
) -> None:
    """The query ran before the change and came back after it: its answer serves its caller and nobody else."""
    counting.open.clear()
    early = asyncio.create_task(cache.find(made[2]))
    await asyncio.sleep(0.1)
    async with database.transaction() as tx:
        await update_organization(tx, org_id=made[0].id, settings={"publishable_key_access": "catalog_only"})
    cache.forget_all()
    counting.open.set()
    first = await early
    second = await cache.find(made[2])
    assert first is not None
    assert second is not None
    assert (first.publishable_key_access, second.publishable_key_access) == ("open", "catalog_only")


async def test_a_look_up_that_hangs_is_not_waited_for_by_later_callers(
    cache: KeyCache, counting, ticker, made
) -> None:
    counting.open.clear()
    early = asyncio.create_task(cache.find(made[1]))
    await asyncio.sleep(0.05)
    ticker.now += 1.0
    late = asyncio.create_task(cache.find(made[1]))
    await asyncio.sleep(0.05)
    assert counting.lookups == 2
    counting.open.set()
    assert await early == await late


async def test_a_caller_that_hangs_up_leaves_the_answer_to_others(
    cache: KeyCache, counting: CountingDatabase, made: Made
) -> None:
    counting.open.clear()
    first, second = (asyncio.create_task(cache.find(made[1])) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    counting.open.set()
    assert await second is not None
    assert counting.lookups == 1


async def test_a_database_that_is_away_is_told_and_not_cached(
    cache: KeyCache, counting, ticker, made
) -> None:
    await cache.find(made[1])
    counting.away = True
    ticker.now += 1.0
    with pytest.raises(Unavailable):
        await cache.find(made[1])
    assert cache.last_known(made[1]) is not None
    assert cache.last_known("sk_test_never_seen") is None
    counting.away = False
    assert await cache.find(made[1]) is not None


async def test_made_up_keys_do_not_push_out_real_ones(
    cache: KeyCache, counting: CountingDatabase, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "MAX_ENTRIES", 10)
    await cache.find(made[1])
    for number in range(50):
        assert await cache.find(f"sk_test_{number:032}") is None
    assert len(cache._unknown) == 10
    counting.lookups = 0
    assert await cache.find(made[1]) is not None
    assert counting.lookups == 0


@pytest.mark.parametrize("text", ["", "sk_", "pk_é", "bearer", "sk_" + "a" * 1000, "SK_test_x", "\x00"])
async def test_what_cannot_be_a_key_costs_no_query(
    cache: KeyCache, counting: CountingDatabase, text: str
) -> None:
    assert await cache.find(text) is None
    assert counting.lookups <= (text == "sk_")


async def test_the_prefix_must_be_that_of_the_row(cache: KeyCache, database: Database, made: Made) -> None:
    """A secret key's row reached through a publishable prefix can only be a forged row, and opens nothing."""
    forged = "pk_" + made[1][3:]
    async with database.transaction() as tx:
        await tx.execute(
            "update api_keys set key_hash = $2 where key_hash = $1", hash_secret(made[1]), hash_secret(forged)
        )
    assert await cache.find(forged) is None
    assert cache.last_known(forged) is None


async def test_a_standing_is_of_the_rights_and_not_of_the_key_alone(
    database: Database, made: Made, ticker: Ticker
) -> None:
    """An answer made with a key's old rights may be ready only when the key has others: nothing stands behind it."""
    keys = KeyCache(database, monotonic=ticker)
    organization, _, publishable = made
    before = await keys.find(publishable)
    assert before is not None
    standing = keys.standing_of(publishable, before)
    assert standing is not None
    ticker.now += key_cache.TTL_S
    assert await keys.find(publishable) == before
    assert keys.standing_of(publishable, before) is standing, "the same rights, looked up again"
    assert standing.until == ticker.now + key_cache.TTL_S
    async with database.transaction() as tx:
        await update_organization(
            tx, org_id=organization.id, settings={"show_margin_to_publishable_keys": True}
        )
    ticker.now += key_cache.TTL_S
    after = await keys.find(publishable)
    assert after is not None
    assert after != before
    assert standing.until == 0
    assert keys.standing_of(publishable, before) is None
    assert keys.standing_of(publishable, after) is not None


async def _standing(cache: KeyCache, key: str) -> Standing:
    """That of a key that has just been found."""
    principal = await cache.find(key)
    assert principal is not None
    standing = cache.standing_of(key, principal)
    assert standing is not None
    return standing


async def _more_keys(database: Database, organization: Organization, count: int) -> list[str]:
    texts = [new_key_text(KeyKind.SECRET, Mode.TEST) for _ in range(count)]
    async with database.transaction() as tx:
        for text in texts:
            key = ApiKey(new_id(), organization.id, KeyKind.SECRET, text[-4:], "", NOW, None)
            await store.insert_key(tx, key, hash_secret(text))
    return texts


async def test_keys_in_use_are_looked_up_again_together_and_nobody_waits(
    cache: KeyCache, counting: CountingDatabase, database: Database, ticker: Ticker, made: Made
) -> None:
    keys = [made[1], made[2], *await _more_keys(database, made[0], 30)]
    found = [await cache.find(key) for key in keys]
    standings = [cache.standing_of(key, one) for key, one in zip(keys, found, strict=True) if one]
    counting.lookups = 0
    for _ in range(4):
        ticker.now += key_cache.RENEWED_EVERY_S
        await cache.renew()
    assert counting.lookups == 4
    assert [one.until for one in standings if one] == [ticker.now + key_cache.TTL_S] * len(keys)
    assert [await cache.find(key) for key in keys] == found
    assert counting.lookups == 4


async def test_a_key_that_was_looked_up_by_itself_is_dead_a_second_after_it_was_revoked(
    cache: KeyCache, database: Database, ticker: Ticker, made: Made
) -> None:
    standing = await _standing(cache, made[1])
    await _revoke(database, cache, made[1])
    ticker.now += key_cache.RENEWED_EVERY_S
    await cache.renew()
    assert standing.until == 0
    assert await cache.find(made[1]) is None
    assert cache.last_known(made[1]) is None


async def test_changed_rights_are_found_by_looking_up_too(
    cache: KeyCache, database: Database, ticker: Ticker, made: Made
) -> None:
    standing = await _standing(cache, made[2])
    async with database.transaction() as tx:
        await update_organization(tx, org_id=made[0].id, settings={"publishable_key_access": "catalog_only"})
    ticker.now += key_cache.RENEWED_EVERY_S
    await cache.renew()
    assert standing.until == 0
    after = await cache.find(made[2])
    assert after is not None
    assert after.publishable_key_access == "catalog_only"


async def test_a_renewal_that_looked_before_a_revocation_counts_from_when_it_began(
    cache: KeyCache, counting: CountingDatabase, database: Database, ticker: Ticker, made: Made
) -> None:
    """It hangs for most of a second after it has read, and the key dies meanwhile: it gets no second of its own."""
    await cache.find(made[1])
    counting.open.clear()
    ticker.now += key_cache.RENEWED_EVERY_S
    began = ticker.now
    renewing = asyncio.create_task(cache.renew())
    await asyncio.sleep(0.1)
    async with database.transaction() as tx:
        await tx.execute("update api_keys set revoked_at = now()")
    counting.open.set()
    ticker.now += 0.9
    await renewing
    ticker.now = began + key_cache.TTL_S
    assert await cache.find(made[1]) is None


async def test_news_during_a_renewal_win(
    cache: KeyCache, counting: CountingDatabase, database: Database, ticker: Ticker, made: Made
) -> None:
    standing = await _standing(cache, made[1])
    counting.open.clear()
    ticker.now += key_cache.RENEWED_EVERY_S
    renewing = asyncio.create_task(cache.renew())
    await asyncio.sleep(0.1)
    async with database.transaction() as tx:
        await tx.execute("update api_keys set revoked_at = now()")
    cache.forget_all()
    counting.open.set()
    await renewing
    assert standing.until == 0
    assert await cache.find(made[1]) is None


async def test_a_slow_renewal_takes_nothing_from_who_looked_later(
    cache: KeyCache, database: Database, ticker: Ticker, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, answered = asyncio.Event(), asyncio.Event()
    find_principals = store.find_principals

    async def slow(connection: Tx, digests: Collection[bytes]) -> dict[bytes, Principal]:
        found = await find_principals(connection, digests)
        read.set()
        await answered.wait()
        return found

    monkeypatch.setattr(store, "find_principals", slow)
    await cache.find(made[2])
    ticker.now += key_cache.RENEWED_EVERY_S
    renewing = asyncio.create_task(cache.renew())
    await read.wait()
    async with database.transaction() as tx:
        await update_organization(tx, org_id=made[0].id, settings={"publishable_key_access": "catalog_only"})
    ticker.now += 0.6
    for slow_one_is_back in (False, True):
        if slow_one_is_back:
            answered.set()
            await renewing
        found = await cache.find(made[2])
        assert found is not None
        assert found.publishable_key_access == "catalog_only"


async def test_what_cannot_be_looked_up_in_time_lapses(
    cache: KeyCache, counting: CountingDatabase, ticker: Ticker, made: Made
) -> None:
    standing = await _standing(cache, made[1])
    counting.away = True
    for _ in range(2):
        ticker.now += key_cache.RENEWED_EVERY_S
        with pytest.raises(Unavailable):
            await cache.renew()
    assert ticker.now >= standing.until
    with pytest.raises(Unavailable):
        await cache.find(made[1])
    counting.away = False
    await cache.renew()
    assert standing.until == ticker.now + key_cache.TTL_S


async def test_a_key_is_in_use_while_answers_rely_on_it(
    cache: KeyCache, counting: CountingDatabase, ticker: Ticker, made: Made
) -> None:
    """Answers given again do not ask for it. Once they rest, so do the looks."""
    standing = await _standing(cache, made[1])
    await cache.find(made[2])
    for _ in range(3):
        ticker.now += key_cache.IN_USE_S - 0.5
        standing.relied_on_at = ticker.now - 0.5
        await cache.renew()
        assert standing.until == ticker.now + key_cache.TTL_S
    counting.lookups = 0
    ticker.now += key_cache.IN_USE_S
    await cache.renew()
    assert counting.lookups == 0
    assert ticker.now >= standing.until


async def test_only_what_speaks_for_somebody_and_is_in_use_is_looked_up(
    cache: KeyCache, counting: CountingDatabase, database: Database, ticker: Ticker, made: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(key_cache, "MAX_RENEWED", 3)
    asked: list[set[bytes]] = []
    find_principals = store.find_principals

    async def spy(connection: Tx, digests: Collection[bytes]) -> dict[bytes, Principal]:
        asked.append(set(digests))
        return await find_principals(connection, digests)

    monkeypatch.setattr(store, "find_principals", spy)
    keys = await _more_keys(database, made[0], 5)
    for key in (*keys, keys[1], "sk_test_unknown", "pk_" + keys[0][3:]):
        await cache.find(key)
    await cache.renew()
    assert asked == [{hash_secret(keys[n]) for n in (1, 3, 4)}], "the last asked for"
    ticker.now += key_cache.IN_USE_S - 0.5
    await cache.find(keys[4])
    await cache.renew()
    assert asked[1:] == [{hash_secret(keys[n]) for n in (1, 3, 4)}]
    ticker.now += 0.5
    await cache.renew()
    assert asked[2:] == [{hash_secret(keys[4])}]
    ticker.now += key_cache.IN_USE_S
    await cache.renew()
    assert len(asked) == 3


async def test_nobody_asks_and_nothing_is_done(
    counting: CountingDatabase, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time, the task itself: it works while a key is in use, through a fault, and rests when none is."""
    for name, seconds in (("RENEWED_EVERY_S", 0.01), ("IN_USE_S", 0.3)):
        monkeypatch.setattr(key_cache, name, seconds)
    cache = KeyCache(counting)  # type: ignore[arg-type]
    keeping = asyncio.create_task(cache.keep_fresh())
    await asyncio.sleep(0.05)
    assert counting.lookups == 0
    await cache.find(made[1])
    await _until(lambda: counting.lookups >= 3)
    counting.away = True
    before = counting.lookups
    await _until(lambda: counting.lookups >= before + 2)
    counting.away = False
    await _until(lambda: not cache._wanted.is_set())
    rested = counting.lookups
    await asyncio.sleep(0.1)
    assert counting.lookups == rested
    await cache.find(made[2])
    await _until(lambda: counting.lookups >= rested + 3)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert keeping.cancelled()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)
