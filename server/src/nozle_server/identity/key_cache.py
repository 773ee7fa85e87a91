"""From the text of a key to whom it speaks for, without a query for every request.

An answer, also "unknown", is kept for one second counted from before the query was sent: a revoked key is
dead everywhere within that second, with or without the change bus. Keys are cached by hash, never as text.

Keys in use are looked up again before their second is over, all of them in one query, so that nobody has to wait for it.
Nothing else changes: what could not be looked up in time lapses.
"""

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from nozle_server.core.standing import Standing
from nozle_server.identity import store
from nozle_server.identity.model import Principal
from nozle_server.identity.tokens import KEY_PREFIXES, hash_secret
from nozle_server.infra.database import Database

T = TypeVar("T")

TTL_S = 1.0
MAX_ENTRIES = 10_000
MAX_KEY_LENGTH = 200

RENEWED_EVERY_S = TTL_S / 2
IN_USE_S = 10.0
"""How long a key is looked up by itself after it was last asked for, or an answer relied on it (`api/recall.py`)."""
MAX_RENEWED = 256
"""Of those last asked for; the others are looked up when they are asked for."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Answer:
    principal: Principal | None
    standing: Standing


class KeyCache:
    """Finds principals by key. One query at a time per key, however many requests wait for it."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._known: dict[bytes, _Answer] = {}
        # Apart from the known, so that a flood of made-up keys cannot push real ones out.
        self._unknown: dict[bytes, _Answer] = {}
        self._loading: dict[bytes, tuple[float, asyncio.Task[Principal | None]]] = {}
        self._last_known: dict[bytes, Principal] = {}
        self._generation = 0
        # When keys that speak for somebody were last asked for, the latest at the end.
        self._in_use: OrderedDict[bytes, float] = OrderedDict()
        self._wanted = asyncio.Event()

    async def find(self, key_text: str) -> Principal | None:
        """Whom the key speaks for; None for a key that is unknown, revoked, or carries another kind's prefix.

        Unavailable when the database has to be asked and cannot be.
        """
        if not _looks_like_key(key_text):
            return None
        digest = hash_secret(key_text)
        now = self._monotonic()
        answer = self._known.get(digest) or self._unknown.get(digest)
        if answer is not None and answer.standing.until > now:
            principal = answer.principal
        else:
            principal = await self._load_once(digest, now)
        if principal is None or not _prefix_fits(key_text, principal):
            return None
        self._note_use(digest, now)
        return principal

    def standing_of(self, key_text: str, principal: Principal) -> Standing | None:
        """Stands while the key is known to speak for this principal, with these rights; moved on when it is looked up again.
        None when it has other rights by now: an answer that was begun with the old ones may be ready only then."""
        answer = self._known.get(hash_secret(key_text))
        return answer.standing if answer is not None and answer.principal == principal else None

    def last_known(self, key_text: str) -> Principal | None:
        """Whom the key spoke for when the database was last asked: only for telling that it is down."""
        if not _looks_like_key(key_text):
            return None
        principal = self._last_known.get(hash_secret(key_text))
        return principal if principal is not None and _prefix_fits(key_text, principal) else None

    def forget_all(self) -> None:
        """Distrust every cached answer: some key or organization has changed."""
        self._generation += 1
        for answer in self._known.values():
            answer.standing.fall()
        self._known.clear()
        self._unknown.clear()
        self._loading.clear()

    async def keep_fresh(self) -> None:
        """Look up keys in use again before they lapse, until cancelled. Rests while none is."""
        failing = False
        while True:
            await self._wanted.wait()
            await asyncio.sleep(RENEWED_EVERY_S)
            try:
                await self.renew()
            except Exception as fault:  # noqa: BLE001  # whatever it is, the keys lapse and are looked up by who asks
                if not failing:
                    log.warning("keys_not_renewed", error=repr(fault))
                failing = True
            else:
                failing = False

    async def renew(self) -> None:
        """Look up the keys in use, in one query. Unavailable when the database cannot be asked."""
        started, generation = self._monotonic(), self._generation
        self._forget_unused(started)
        asked = [digest for digest in self._in_use if digest in self._known]
        if not self._in_use:
            self._wanted.clear()
        if not asked:
            return
        async with self._database.reserve.connection() as connection:
            found = await store.find_principals(connection, asked)
        if generation != self._generation:
            return
        for digest in asked:
            self._remember(digest, found.get(digest), started + TTL_S)

    def _note_use(self, digest: bytes, now: float) -> None:
        self._in_use[digest] = now
        self._in_use.move_to_end(digest)
        if len(self._in_use) > MAX_RENEWED:
            self._in_use.popitem(last=False)
        self._wanted.set()

    def _forget_unused(self, now: float) -> None:
        for digest, asked_at in [*self._in_use.items()]:
            answer = self._known.get(digest)
            relied_on_at = asked_at if answer is None else answer.standing.relied_on_at
            if max(asked_at, relied_on_at) + IN_USE_S <= now:
                del self._in_use[digest]

    async def _load_once(self, digest: bytes, now: float) -> Principal | None:
        loading = self._loading.get(digest)
        if loading is None or loading[0] + TTL_S <= now:
            loading = (now, asyncio.create_task(self._load(digest, now)))
            self._loading[digest] = loading
        try:
            # Shielded: one caller that hangs up must not take the answer from the others.
            return await asyncio.shield(loading[1])
        finally:
            if self._loading.get(digest) is loading and loading[1].done():
                del self._loading[digest]

    async def _load(self, digest: bytes, started: float) -> Principal | None:
        generation = self._generation
        async with self._database.connection() as connection:
            found = await store.find_principal(connection, digest)
        principal = found[1] if found is not None and hmac.compare_digest(found[0], digest) else None
        if generation == self._generation:
            self._remember(digest, principal, started + TTL_S)
        return principal

    def _remember(self, digest: bytes, principal: Principal | None, until: float) -> None:
        before = self._known.get(digest) or self._unknown.get(digest)
        if before is not None and before.standing.until > until:
            return  # somebody began later and was quicker
        before = self._known.get(digest)
        if before is not None and before.principal == principal:
            before.standing.until = until
            return
        if before is not None:
            before.standing.fall()
            del self._known[digest]
        answer = _Answer(principal, Standing(until))
        if principal is None:
            self._last_known.pop(digest, None)
            _put(self._unknown, digest, answer)
        else:
            self._unknown.pop(digest, None)
            _put(self._known, digest, answer)
            _put(self._last_known, digest, principal)


def _put(entries: dict[bytes, T], digest: bytes, value: T) -> None:
    if digest not in entries and len(entries) >= MAX_ENTRIES:
        del entries[next(iter(entries))]
    entries[digest] = value


def _looks_like_key(text: str) -> bool:
    return len(text) <= MAX_KEY_LENGTH and text.startswith(("sk_", "pk_")) and text.isascii()


def _prefix_fits(key_text: str, principal: Principal) -> bool:
    """The row decides what a key may do; a prefix that says otherwise is a forgery or a mistake."""
    return key_text.startswith(KEY_PREFIXES[principal.kind])
