"""Connection tokens: JWTs, HS256, as Centrifugo's clients carry them. Pure.

Exactly the tokens that `mint` makes are accepted: the header is compared as bytes, so there is no algorithm, key id or
type for a caller to choose (A14). The audience keeps tokens of other purposes out.
"""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from nozle_server.core import json
from nozle_server.realtime.model import Claims

LIFETIME = timedelta(hours=1)
AUDIENCE = "nozle:realtime"
MAX_TOKEN_BYTES = 8 * 1024

_HEADER = b'{"alg":"HS256","typ":"JWT"}'


SCOPES = ("customer", "workspace")


class TokenRefused(Exception):
    """Not a token of ours."""


class TokenExpired(TokenRefused):
    """It was one."""


class _Meta(msgspec.Struct):
    key: UUID
    allow: list[str]


class _Info(msgspec.Struct):
    workspace_id: UUID
    scope: str


class _Body(msgspec.Struct):
    """`meta` and `info` are Centrifugo's claims: the first is shown to a subscribe proxy alone, the second to anybody
    who asks who is present."""

    sub: str
    aud: str
    iat: int
    exp: int
    info: _Info
    meta: _Meta


_decoder = msgspec.json.Decoder(_Body)


def subjects_of(key_id: UUID) -> list[str]:
    """Every subject that a token made with this key may have."""
    return [f"{scope}:{key_id}" for scope in SCOPES]


def mint(
    secret: bytes, *, org_id: UUID, key_id: UUID, scope: str, channels: tuple[str, ...], real_now: datetime
) -> tuple[str, datetime]:
    """A token that may join `channels` and lives for `LIFETIME`; it, and when it ends."""
    assert scope in SCOPES, "a scope of ours"
    issued = int(real_now.timestamp())
    expires = issued + int(LIFETIME.total_seconds())
    body = json.dumps(
        {
            "sub": f"{scope}:{key_id}",
            "aud": AUDIENCE,
            "iat": issued,
            "exp": expires,
            "info": {"workspace_id": org_id, "scope": scope},
            "meta": {"key": key_id, "allow": list(channels)},
        }
    )
    signed = _to_base64(_HEADER) + b"." + _to_base64(body)
    token = signed + b"." + _to_base64(_sign(secret, signed))
    return token.decode(), datetime.fromtimestamp(expires, UTC)


def verify(secret: bytes, token: str, real_now: datetime) -> Claims:
    """What a token says. TokenExpired when its time is over, TokenRefused when it is not one of ours."""
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise TokenRefused
    signed, _, signature = token.encode().rpartition(b".")
    header, _, payload = signed.partition(b".")
    if header != _to_base64(_HEADER) or not hmac.compare_digest(_to_base64(_sign(secret, signed)), signature):
        raise TokenRefused
    try:
        body = _decoder.decode(_from_base64(payload))
    except (msgspec.MsgspecError, Base64Error, ValueError):
        raise TokenRefused from None
    if body.aud != AUDIENCE or not body.sub:
        raise TokenRefused
    if body.exp <= real_now.timestamp():
        raise TokenExpired
    return Claims(
        body.sub,
        body.info.workspace_id,
        body.meta.key,
        tuple(body.meta.allow),
        datetime.fromtimestamp(body.exp, UTC),
        {"workspace_id": body.info.workspace_id, "scope": body.info.scope},
    )


def _sign(secret: bytes, signed: bytes) -> bytes:
    return hmac.new(secret, signed, hashlib.sha256).digest()


def _to_base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _from_base64(data: bytes) -> bytes:
    return urlsafe_b64decode(data + b"=" * (-len(data) % 4))
