"""Signed snapshots: what `can()` says of one customer, for who decides without asking. Pure, both sides of it.

A snapshot is a compact JWS (RFC 7515) signed with Ed25519 (RFC 8037). `mint` is the server's side. `read` and `decide` are
what an SDK does, written down as code: they need the published keys and a clock, nothing of the server. Where time alone
or the SDK's own counting leaves the decision open, the answer is "could not tell", never "allowed".

Three spans: until `exp` the snapshot is trusted; from there until `stale_until` each feature's `on_stale` says what holds
while nobody can be asked; after that it says nothing. docs/signed-snapshots.md tells it for people.
"""

from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nozle_server.core import json
from nozle_server.core.rounding import EXACT
from nozle_server.entitlements.decision import decide as decide_facts
from nozle_server.entitlements.model import Facts, PlanRight, Reason, SubscriptionFacts
from nozle_server.entitlements.signing_keys import SigningKey, to_base64
from nozle_server.subscriptions.model import Status

TYPE = "nozle-entitlements+jwt"
VERSION = 1
MAX_TOKEN_BYTES = 1024 * 1024
LONGEST_TRUST = timedelta(minutes=5)
LONGEST_GRACE = timedelta(days=1)
CLOCK_SKEW = timedelta(minutes=1)
"""How far a replica's clock may be behind ours: what is held for it is held that much longer."""
LONGEST_USE = LONGEST_TRUST + LONGEST_GRACE + CLOCK_SKEW

_ZERO = Decimal(0)


class SnapshotRefused(Exception):
    """Not a snapshot of ours, or not the one that was wanted."""


class SnapshotOver(SnapshotRefused):
    """It was one, and says nothing any more."""


class OnStale(msgspec.Struct, frozen=True):
    """What holds for a feature while nobody can be asked: `policy` is open, closed or open_up_to; of the latter, how many
    credits the server holds for this replica, and under which id."""

    policy: str
    credits: Decimal | None = None
    hold_id: str | None = None


class FeatureClaims(msgspec.Struct, frozen=True):
    """One feature. `valid_until` is when time alone may change the decision; no `on_stale`: who cannot ask cannot tell."""

    allowed: bool
    reason: str
    type: str | None = None
    used: Decimal = _ZERO
    limit: Decimal | None = None
    remaining: Decimal | None = None
    overage: bool = False
    privileges: dict[str, Any] = {}
    subscription_id: str | None = None
    plan_code: str | None = None
    valid_until: datetime | None = None
    on_stale: OnStale | None = None


class SubscriptionClaims(msgspec.Struct, frozen=True):
    """A subscription that runs."""

    subscription_id: str
    plan_code: str
    status: str


class SignedSnapshot(msgspec.Struct, frozen=True):
    """The claims: `aud` the organization, `sub` the customer by the merchant's id, `jti` the snapshot, `iat`, `exp` and
    `stale_until` in seconds; `unlisted` is what holds for every code that `features` does not have."""

    ver: int
    iss: str
    aud: UUID
    sub: str
    jti: str
    iat: int
    exp: int
    stale_until: int
    replica: str
    subscriptions: list[SubscriptionClaims]
    features: dict[str, FeatureClaims]
    unlisted: FeatureClaims

    @property
    def issued_at(self) -> datetime:
        return datetime.fromtimestamp(self.iat, UTC)

    @property
    def trusted_until(self) -> datetime:
        return datetime.fromtimestamp(self.exp, UTC)

    @property
    def over_at(self) -> datetime:
        """When not even the policies for a stale one hold any more."""
        return datetime.fromtimestamp(self.stale_until, UTC)


class _Header(msgspec.Struct):
    kid: str


class Answer(Enum):
    """The three outcomes of a decision."""

    ALLOWED = "allowed"
    DENIED = "denied"
    COULD_NOT_TELL = "could_not_tell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an SDK answers, and why: a reason of `can()`, or `stale_open`, `stale_closed`, `stale_credits`,
    `stale_credits_used_up`, `stale` (the server has to be asked), `ask_the_server` (as another subscription may allow it).

    `stale`: the snapshot is not trusted for this feature any more. Ask for the next one first.
    """

    answer: Answer
    reason: str
    stale: bool = False


_decoder = msgspec.json.Decoder(SignedSnapshot, float_hook=Decimal)
_header_decoder = msgspec.json.Decoder(_Header)


def mint(key: SigningKey, snapshot: SignedSnapshot) -> str:
    """The token: header, claims and signature."""
    claims = json.dumps(_plain(snapshot))
    signed = f"{to_base64(_header(key.id))}.{to_base64(claims)}"
    return f"{signed}.{to_base64(key.sign(signed.encode()))}"


def read(
    token: str,
    keys: Mapping[str, str],
    *,
    organization: UUID,
    customer: str,
    replica: str,
    now: datetime,
) -> SignedSnapshot:
    """What a token says, if it is a snapshot of this customer for this replica, also when it is stale; `keys` are the
    published ones, from `kid` to `x`.

    SnapshotRefused for anything else: another algorithm or type, a key that is not published, a changed byte, another
    organization, customer or replica, a beginning in the future. SnapshotOver when even stale policies have ended.
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise SnapshotRefused("this is no token")
    signed, _, signature = token.encode().rpartition(b".")
    header, _, payload = signed.partition(b".")
    try:
        kid = _header_decoder.decode(_from_base64(header)).kid
        # The header is compared as a whole: there is no algorithm, type or key of its own for a token to choose.
        if kid not in keys or _from_base64(header) != _header(kid):
            raise SnapshotRefused("it is not signed by a published key")
        public = Ed25519PublicKey.from_public_bytes(_from_base64(keys[kid].encode()))
        public.verify(_from_base64(signature), signed)
        snapshot = _decoder.decode(_from_base64(payload))
    except (msgspec.MsgspecError, Base64Error, ValueError, InvalidSignature):
        raise SnapshotRefused("it is not a snapshot, or was changed") from None
    if snapshot.ver != VERSION:
        raise SnapshotRefused("it is of another version")
    if (snapshot.aud, snapshot.sub, snapshot.replica) != (organization, customer, replica):
        raise SnapshotRefused("it is somebody else's")
    if now + CLOCK_SKEW < snapshot.issued_at:
        raise SnapshotRefused("it begins in the future: the clock is wrong")
    if now >= snapshot.over_at:
        raise SnapshotOver("it is over")
    return snapshot


def decide(
    snapshot: SignedSnapshot,
    feature: str,
    now: datetime,
    *,
    used_since: Decimal = _ZERO,
    amount: Decimal = Decimal(1),
    given: Decimal = _ZERO,
) -> Verdict:
    """May the customer use the feature at `now`, as far as the snapshot tells?

    `used_since` is the usage that this process has reported since the snapshot. `amount` credits are what the use would
    take of what is held, and `given` what was given away of that before; both matter under `open_up_to` alone.
    """
    claims = snapshot.features.get(feature, snapshot.unlisted)
    if now >= snapshot.over_at:
        return Verdict(Answer.COULD_NOT_TELL, "stale", stale=True)
    changed = claims.valid_until is not None and now >= claims.valid_until
    if changed or now >= snapshot.trusted_until:
        return _decide_stale(claims.on_stale, amount, given)
    if claims.reason != Reason.WITHIN_LIMIT or not used_since:
        return Verdict(_answer(claims.allowed), claims.reason)
    return _count_on(claims, used_since, now, alone=len(snapshot.subscriptions) <= 1)


def _decide_stale(policy: OnStale | None, amount: Decimal, given: Decimal) -> Verdict:
    if policy is None:
        return Verdict(Answer.COULD_NOT_TELL, "stale", stale=True)
    match policy.policy:
        case "open":
            return Verdict(Answer.ALLOWED, "stale_open", stale=True)
        case "open_up_to":
            enough = EXACT.add(given, amount) <= (policy.credits or _ZERO)
            reason = "stale_credits" if enough else "stale_credits_used_up"
            return Verdict(_answer(enough), reason, stale=True)
        case _:  # what an SDK does not know is closed
            return Verdict(Answer.DENIED, "stale_closed", stale=True)


def _count_on(claims: FeatureClaims, used_since: Decimal, now: datetime, *, alone: bool) -> Verdict:
    """Count what was used since against the limit, by the server's own rule."""
    right = PlanRight(metered=True, limit=claims.limit, overage=claims.privileges.get("overage") is True)
    used = EXACT.add(claims.used, used_since)
    facts = SubscriptionFacts(
        Status.ACTIVE, now, None, right, used, price=None, priced_units=_ZERO, currency=""
    )
    decision = decide_facts(Facts(now, (facts,)))
    if not decision.allowed and not alone:
        return Verdict(Answer.COULD_NOT_TELL, "ask_the_server")
    return Verdict(_answer(decision.allowed), decision.reason)


def _answer(allowed: bool) -> Answer:
    return Answer.ALLOWED if allowed else Answer.DENIED


def _header(kid: str) -> bytes:
    return json.dumps({"alg": "EdDSA", "kid": kid, "typ": TYPE})


def _plain(value: object) -> object:
    """Structs as dicts, as far down as there are any."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def _from_base64(data: bytes) -> bytes:
    """ValueError for anything but the one way to write these bytes."""
    decoded = urlsafe_b64decode(data + b"=" * (-len(data) % 4))
    if to_base64(decoded).encode() != data:
        raise ValueError("not the one way to write it")
    return decoded
