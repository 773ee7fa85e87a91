"""The keys that snapshots are signed with (Ed25519): which of them signs now, and which are published. Pure.

A new key is published for a while before it signs, so that whoever keeps the published keys for as long as they may be kept
knows it in time; and an old one stays published until nothing signed by it is trusted any more.
"""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEPT_PUBLISHED = timedelta(minutes=5)
"""How long the published keys may be kept without looking again."""
PUBLISHED_AHEAD = 2 * KEPT_PUBLISHED
"""How long a new key is published before it signs."""
SEED_BYTES = 32


@dataclass(frozen=True)
class SigningKey:
    """One key pair; `number` counts them up."""

    number: int
    seed: bytes
    created_at: datetime

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @cached_property
    def x(self) -> str:
        """The public key, as a JWK has it (RFC 8037)."""
        return to_base64(self._private.public_key().public_bytes_raw())

    @cached_property
    def id(self) -> str:
        """The `kid`: the thumbprint of the public key (RFC 7638), so that it names this key and no other."""
        members = f'{{"crv":"Ed25519","kty":"OKP","x":"{self.x}"}}'
        return to_base64(hashlib.sha256(members.encode()).digest())

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)

    def public_jwk(self) -> dict[str, str]:
        return {"kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.id, "alg": "EdDSA", "use": "sig"}


def signing_key(keys: Sequence[SigningKey], now: datetime) -> SigningKey:
    """Which of the keys, oldest first, signs at `now`: the newest that has been published long enough; the first one there
    is signs at once."""
    ready = [one for one in keys[1:] if one.created_at + PUBLISHED_AHEAD <= now]
    return ready[-1] if ready else keys[0]


def still_trusted(keys: Sequence[SigningKey], now: datetime, longest_use: timedelta) -> list[SigningKey]:
    """The keys, oldest first, without those that signed nothing which is of use at `now`: what a key signed is, for
    `longest_use` after the next one took its place."""
    kept = []
    for place, one in enumerate(keys):
        following = keys[place + 1] if place + 1 < len(keys) else None
        if following is None or now < following.created_at + PUBLISHED_AHEAD + longest_use:
            kept.append(one)
    return kept


def to_base64(data: bytes) -> str:
    """URL-safe and without padding, as JWS has it."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()
