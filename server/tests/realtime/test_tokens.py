"""A14: only what we signed, for this purpose, and only while it lives."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.realtime.tokens import LIFETIME, TokenExpired, TokenRefused, mint, verify

SECRET = b"s" * 32
ORG, KEY = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
HEADER = {"alg": "HS256", "typ": "JWT"}


def a_token() -> str:
    return mint(SECRET, org_id=ORG, key_id=KEY, scope="customer", channels=("customer:a:b",), real_now=NOW)[0]


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def signed(
    header: dict[str, Any], claims: dict[str, Any], secret: bytes = SECRET, how: Any = hashlib.sha256
) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = ".".join(part(json.dumps(one, separators=(",", ":")).encode()) for one in (header, claims))
    return f"{text}.{part(hmac.new(secret, text.encode(), how).digest())}"


def test_what_we_made_says_who_and_what() -> None:
    claims = verify(SECRET, a_token(), NOW)
    assert (claims.org_id, claims.key_id, claims.channels) == (ORG, KEY, ("customer:a:b",))
    assert claims.expires_at == NOW + LIFETIME
    assert verify(SECRET, signed(HEADER, claims_of(a_token())), NOW) == claims


CENTRIFUGO = {
    "sub": str,
    "exp": int,
    "iat": int,
    "jti": str,
    "aud": str,
    "iss": str,
    "info": dict,
    "b64info": str,
    "channels": list,
    "subs": dict,
    "meta": dict,
    "expire_at": int,
}
"""The claims that Centrifugo reads (https://centrifugal.dev/docs/server/authentication#connection-jwt-claims)."""


def test_a_jwt_library_and_centrifugo_read_it_as_we_mean_it() -> None:
    """With the secret as it stands in the settings; every claim is one of Centrifugo's, of the type it wants. None subscribes
    by itself (`channels`, `subs`): the published clients do, and would be told that they are subscribed already."""
    secret = "geheim-ä-" + "x" * 32
    now = datetime.now(UTC)
    token, until = mint(
        secret.encode(), org_id=ORG, key_id=KEY, scope="workspace", channels=("workspace:a:b",), real_now=now
    )
    asked = jwt.get_unverified_header(token)
    assert asked == {"alg": "HS256", "typ": "JWT"}
    required = {"require": ["sub", "exp", "iat", "aud"]}
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience="nozle:realtime", options=required)
    assert {name: type(value) for name, value in claims.items()} == {
        name: CENTRIFUGO[name] for name in ("sub", "aud", "iat", "exp", "info", "meta")
    }
    assert claims["sub"] == f"workspace:{KEY}"
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["exp"] == until.timestamp()
    assert claims["info"] == {"workspace_id": str(ORG), "scope": "workspace"}
    assert claims["meta"] == {"key": str(KEY), "allow": ["workspace:a:b"]}


@pytest.mark.parametrize(
    ("secret", "audience", "ago", "fault"),
    [
        ("another secret of thirty-two bytes", "nozle:realtime", timedelta(), jwt.InvalidSignatureError),
        ("s" * 32, "nozle:rest", timedelta(), jwt.InvalidAudienceError),
        ("s" * 32, "nozle:realtime", LIFETIME, jwt.ExpiredSignatureError),
    ],
)
def test_a_jwt_library_refuses_it_elsewhere_and_later(
    secret: str, audience: str, ago: timedelta, fault: type[Exception]
) -> None:
    made_at = datetime.now(UTC) - ago
    token, _ = mint(SECRET, org_id=ORG, key_id=KEY, scope="customer", channels=(), real_now=made_at)
    with pytest.raises(fault):
        jwt.decode(token, secret, algorithms=["HS256"], audience=audience)


def test_it_lives_for_an_hour_and_not_longer() -> None:
    verify(SECRET, a_token(), NOW + LIFETIME - timedelta(seconds=1))
    with pytest.raises(TokenExpired):
        verify(SECRET, a_token(), NOW + LIFETIME)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "JWT"},
        {"alg": "HS512", "typ": "JWT"},
        {"alg": "RS256", "typ": "JWT"},
        {"alg": "HS256", "typ": "JWT", "kid": "../../dev/null"},
        {"alg": "HS256", "typ": "JWT", "jwk": {}},
        {"alg": "HS256"},
        {},
    ],
)
def test_no_other_header_is_accepted(header: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        verify(SECRET, signed(header, claims_of(a_token())), NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": None},
        {"exp": "2026"},
        {"aud": "nozle:rest"},
        {"aud": None},
        {"sub": ""},
        {"meta": {"key": str(KEY)}},
        {"meta": {"allow": ["c"], "key": "somebody"}},
        {"info": None},
    ],
)
def test_no_other_claims_are_accepted(change: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**claims_of(a_token()), **change}.items() if value is not None}
    with pytest.raises(TokenRefused):
        verify(SECRET, signed(HEADER, claims), NOW)


def test_no_other_signature_is_accepted() -> None:
    claims = claims_of(a_token())
    head, body, _ = a_token().split(".")
    for token in (
        signed(HEADER, claims, b"t" * 32),
        signed(HEADER, claims, b""),
        signed(HEADER, claims, SECRET, hashlib.sha512),
        f"{head}.{body}.",
        f"{head}.{body}",
        a_token() + "A",
    ):
        with pytest.raises(TokenRefused):
            verify(SECRET, token, NOW)


@given(st.text(max_size=300))
def test_no_other_text_is_accepted(text: str) -> None:
    for token in (text, f"{a_token()}{text or '.'}", a_token().replace(".", text or ",", 1)):
        if token != a_token():
            with pytest.raises(TokenRefused):
                verify(SECRET, token, NOW)
