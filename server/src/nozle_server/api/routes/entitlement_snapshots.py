"""Signed snapshots for SDKs that decide in-process, and the keys that they are checked with."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from nozle_server.api.endpoint import SEED, Amount, Call, Endpoint, Example, Mount, Scope
from nozle_server.api.entity_tags import tagged
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, STRING, array, shape
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.ids import from_text, to_text
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id
from nozle_server.entitlements.issuing import SNAPSHOT_ID, Issued, Wanted, issue_snapshot
from nozle_server.entitlements.replica_promises import Report
from nozle_server.entitlements.signed_snapshot import LONGEST_GRACE, LONGEST_TRUST
from nozle_server.entitlements.signing import published_keys
from nozle_server.entitlements.signing_keys import KEPT_PUBLISHED

TRUST_S = 60
GRACE_S = 600
MAX_POLICIES = 200
ISSUER = "nozle"
"""Who signs, where the server does not know its public address."""


class OpenUpTo(msgspec.Struct, forbid_unknown_fields=True):
    """At most this many credits, which the server holds in advance."""

    open_up_to: Amount


class StalePolicy(msgspec.Struct):
    """What holds for a feature while nobody can be asked: `open`, `closed`, or open up to a number of credits."""

    on_stale: Literal["open", "closed"] | OpenUpTo


class SnapshotBody(msgspec.Struct):
    """`replica_id` names the process that will use it, and no other. `spent` is all that it gave away of what was held, by
    feature, under `previous_snapshot_id`, the last one it got."""

    customer_id: str
    replica_id: str
    trust_seconds: Annotated[int, msgspec.Meta(ge=1, le=int(LONGEST_TRUST.total_seconds()))] = TRUST_S
    stale_seconds: Annotated[int, msgspec.Meta(ge=0, le=int(LONGEST_GRACE.total_seconds()))] = GRACE_S
    features: dict[str, StalePolicy] = {}
    previous_snapshot_id: str | None = None
    spent: dict[str, Amount] = {}


async def create(call: Call) -> object:
    body: SnapshotBody = call.body
    issued = await issue_snapshot(
        call.tx,
        call.services.seams.change_bus,
        call.services.economics,
        org_id=call.org_id,
        wanted=Wanted(
            customer=parse_id(body.customer_id, "customer_id"),
            replica=parse_id(body.replica_id, "replica_id"),
            trust=timedelta(seconds=body.trust_seconds),
            grace=timedelta(seconds=body.stale_seconds),
            on_stale=_policies(body.features),
            report=_report(body),
        ),
        issuer=call.services.settings.public_url or ISSUER,
        now=call.now,
        real_now=call.received_at,
    )
    return _issued_json(issued)


def _policies(features: Mapping[str, StalePolicy]) -> dict[str, str | Decimal]:
    if len(features) > MAX_POLICIES:
        raise InvalidInput(
            f"more than {MAX_POLICIES} features", details={"features": ["value_is_out_of_range"]}
        )
    return {parse_id(code, "features"): _policy(one) for code, one in features.items()}


def _policy(wanted: StalePolicy) -> str | Decimal:
    if isinstance(wanted.on_stale, str):
        return wanted.on_stale
    return parse_amount(Decimal(wanted.on_stale.open_up_to), "open_up_to", minimum=Decimal(0), exclusive=True)


def _report(body: SnapshotBody) -> Report:
    if body.spent and body.previous_snapshot_id is None:
        raise InvalidInput(
            "previous_snapshot_id says under which snapshot that was spent",
            details={"previous_snapshot_id": ["value_is_mandatory"]},
        )
    spent = {
        parse_id(code, "spent"): parse_amount(Decimal(amount), "spent", minimum=Decimal(0))
        for code, amount in body.spent.items()
    }
    return Report(_snapshot_id(body.previous_snapshot_id), spent)


def _snapshot_id(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return from_text(SNAPSHOT_ID, text, what="snapshot")
    except NotFound:
        raise InvalidInput(
            "previous_snapshot_id is no snapshot's", details={"previous_snapshot_id": ["value_is_invalid"]}
        ) from None


def _issued_json(issued: Issued) -> dict[str, object]:
    snapshot = issued.snapshot
    return {
        "token": issued.token,
        "snapshot_id": snapshot.jti,
        "key_id": issued.kid,
        "issued_at": snapshot.issued_at,
        "expires_at": snapshot.trusted_until,
        "stale_until": snapshot.over_at,
        "held": {
            code: {
                "hold_id": to_text("hold", one.hold_id),
                "credits": one.credits,
                "expires_at": one.expires_at,
            }
            for code, one in sorted(issued.renewal.promised.items())
        },
        "settled": {
            code: {"settled": one.settled, "uncovered": one.uncovered}
            for code, one in sorted(issued.renewal.taken.items())
        },
    }


async def keys(call: Call) -> object:
    found = await published_keys(call.tx, call.received_at)
    seconds = int(KEPT_PUBLISHED.total_seconds())
    document = {"keys": [one.public_jwk() for one in reversed(found)]}
    return tagged(call, document, cache_control=f"public, max-age={seconds}")


_KEY_ID = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
_EXAMPLE: dict[str, Any] = {
    "token": "eyJhbGciOiJFZERTQSIsImtpZCI6ImtQcksi.eyJ2ZXIiOjEsInN1YiI6ImFjbWUifQ.c2lnbmF0dXJl",
    "snapshot_id": "snap_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "key_id": _KEY_ID,
    "issued_at": "2026-01-15T10:30:00Z",
    "expires_at": "2026-01-15T10:31:00Z",
    "stale_until": "2026-01-15T10:41:00Z",
    "held": {
        "chat": {
            "hold_id": "hold_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
            "credits": 25,
            "expires_at": "2026-01-15T10:54:02Z",
        }
    },
    "settled": {"chat": {"settled": 3, "uncovered": 0}},
}
_JWK = shape(kty=STRING, crv=STRING, x=STRING, kid=STRING, alg=STRING, use=STRING)


def _keys_endpoint(path: str, mounts: tuple[Mount, ...]) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        handler=keys,
        scope=Scope.PUBLIC,
        mounts=mounts,
        summary="The public keys of signed snapshots",
        description=(
            "As a JWK set (RFC 7517), Ed25519, the newest first. It may be kept for as long as `Cache-Control` says: a new key"
            " is published before it signs, and an old one until nothing signed by it is of use."
        ),
        tag="Entitlements",
        reply_schema=shape(keys=array(_JWK)),
        example=Example(
            response={
                "keys": [
                    {
                        "kty": "OKP",
                        "crv": "Ed25519",
                        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                        "kid": _KEY_ID,
                        "alg": "EdDSA",
                        "use": "sig",
                    }
                ]
            }
        ),
    )


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/entitlements/snapshots",
        handler=create,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="A signed snapshot to decide by in-process",
        description=(
            "All that `can` says of one customer, as a compact JWS (Ed25519, keys at `/entitlements/keys`), without cost,"
            " revenue or margin. It is trusted for `trust_seconds`. For `stale_seconds` more, each feature's `on_stale` says"
            " what holds while the server cannot be reached; without one the SDK cannot tell. `open_up_to` credits are held"
            " for this replica in advance: the token says how many there were, and none is closed. The next call of the same"
            " replica settles what it reports as `spent` under `previous_snapshot_id` and holds anew; what is promised no"
            " more stays held until a call names the snapshot that says so. An unknown customer has a snapshot that"
            " denies everything. See docs/signed-snapshots.md."
        ),
        tag="Entitlements",
        body=SnapshotBody,
        body_aliases={"customerId": "customer_id", "external_customer_id": "customer_id"},
        reply_schema=shape(
            token=STRING,
            snapshot_id=STRING,
            key_id=STRING,
            issued_at=INSTANT,
            expires_at=INSTANT,
            stale_until=INSTANT,
            held=ANY_OBJECT,
            settled=ANY_OBJECT,
        ),
        idempotent=True,
        one_at_a_time=(("body", "customer_id"),),
        example=Example(
            request={
                "customer_id": "acme",
                "replica_id": "web-1",
                "features": {"chat": {"on_stale": {"open_up_to": "25"}}, "sso": {"on_stale": "open"}},
                "previous_snapshot_id": "snap_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0d",
                "spent": {"chat": "3"},
            },
            response=_EXAMPLE,
        ),
    ),
    _keys_endpoint("/entitlements/keys", SEED),
    _keys_endpoint("/.well-known/jwks.json", (Mount.ROOT,)),
)
