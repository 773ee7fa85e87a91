"""From the text of a key to whom it speaks for, without a query for every request.

An answer, also "unknown", is kept for one second counted from before the query was sent: a revoked key is
dead everywhere within that second, with or without the change bus. Keys are cached by hash, never as text.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from nozle_server.core.standing import Standing
from nozle_server.identity import store
from nozle_server.identity.model import Principal
from nozle_server.identity.tokens import KEY_PREFIXES, hash_secret
from nozle_server.infra.database import Database

T = TypeVar("T")

TTL_S = 1.0
MAX_ENTRIES = 10_000
MAX_KEY_LENGTH = 200


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

    async def find(self, key_text: str) -> Principal | None:
        """Whom the key speaks for; None for a key that is unknown, revoked, or carries another kind's prefix.

        Unavailable when the database has to be asked and cannot be.
        """
        if not _looks_like_key(key_text):
            return None
        digest = hash_secret(key_text)
        answer = self._known.get(digest) or self._unknown.get(digest)
        if answer is not None and answer.standing.until > self._monotonic():
            principal = answer.principal
        else:
            principal = await self._load_once(digest)
        return principal if principal is not None and _prefix_fits(key_text, principal) else None

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

    async def _load_once(self, digest: bytes) -> Principal | None:
        now = self._monotonic()
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
