"""What a signed snapshot means to who decides by it: only what we signed, for this customer, and only while it tells."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.entitlements import decision
from nozle_server.entitlements.model import Facts, PlanRight, SubscriptionFacts
from nozle_server.entitlements.signed_snapshot import (
    CLOCK_SKEW,
    TYPE,
    Answer,
    FeatureClaims,
    OnStale,
    SignedSnapshot,
    SnapshotOver,
    SnapshotRefused,
    SubscriptionClaims,
    decide,
    mint,
    read,
)
from nozle_server.entitlements.signing_keys import SigningKey
from nozle_server.subscriptions.model import Status

ORG, OTHER_ORG = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
TRUSTED = NOW + timedelta(seconds=60)
OVER = TRUSTED + timedelta(seconds=600)
KEY, OTHER_KEY = SigningKey(1, b"k" * 32, NOW), SigningKey(2, b"o" * 32, NOW)
KEYS = {KEY.id: KEY.x}
WITHIN = FeatureClaims(
    True, "within_limit", "metered", used=Decimal(7), limit=Decimal(10), remaining=Decimal(3)
)
ONE = SubscriptionClaims("sub_1", "pro", "active")


def a_snapshot(**changed: Any) -> SignedSnapshot:
    made = SignedSnapshot(
        ver=1,
        iss="nozle",
        aud=ORG,
        sub="acme",
        jti="snap_1",
        iat=int(NOW.timestamp()),
        exp=int(TRUSTED.timestamp()),
        stale_until=int(OVER.timestamp()),
        replica="web-1",
        subscriptions=[ONE],
        features={
            "chat": WITHIN,
            "sso": FeatureClaims(True, "feature_enabled", "boolean", privileges={"level": Decimal("1.5")}),
        },
        unlisted=FeatureClaims(False, "feature_not_in_plan"),
    )
    return msgspec.structs.replace(made, **changed)


def with_policy(policy: OnStale | None, **changed: Any) -> SignedSnapshot:
    return a_snapshot(features={"chat": msgspec.structs.replace(WITHIN, on_stale=policy, **changed)})


def read_it(token: str, **changed: Any) -> SignedSnapshot:
    wanted = {"organization": ORG, "customer": "acme", "replica": "web-1", "now": NOW, **changed}
    return read(token, wanted.pop("keys", KEYS), **wanted)


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: dict[str, Any], sign: Callable[[bytes], bytes] = KEY.sign) -> str:
    """A token with a header of one's own, and the claims of a good one."""
    text = (
        f"{part(json.dumps(header, separators=(',', ':')).encode())}.{mint(KEY, a_snapshot()).split('.')[1]}"
    )
    return f"{text}.{part(sign(text.encode()))}"


def test_what_was_signed_is_read_to_the_last_digit() -> None:
    snapshot = a_snapshot(features={"chat": msgspec.structs.replace(WITHIN, used=Decimal("0.123456789012"))})
    assert read_it(mint(KEY, snapshot)) == snapshot
    assert read_it(mint(KEY, a_snapshot())) == a_snapshot()


def test_only_the_header_that_we_write_is_accepted() -> None:
    assert read_it(signed({"alg": "EdDSA", "kid": KEY.id, "typ": TYPE})) == a_snapshot()


def _by_public_key(text: bytes) -> bytes:
    """HS256 with the public key as its secret: who lets the token choose accepts it."""
    return hmac.new(KEY.x.encode(), text, hashlib.sha256).digest()


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed({"alg": "none", "kid": KEY.id, "typ": TYPE}, lambda _: b""), id="none"),
        pytest.param(signed({"alg": "HS256", "kid": KEY.id, "typ": TYPE}, _by_public_key), id="HS256"),
        pytest.param(
            signed({"alg": "EdDSA", "kid": KEY.id, "typ": TYPE}, _by_public_key), id="HS256 as EdDSA"
        ),
        pytest.param(signed({"alg": "EdDSA", "kid": KEY.id, "typ": "JWT"}), id="another type"),
        pytest.param(signed({"alg": "EdDSA", "typ": TYPE}), id="no key named"),
        pytest.param(signed({"alg": "EdDSA", "kid": OTHER_KEY.id, "typ": TYPE}), id="a key not published"),
        pytest.param(
            signed({"alg": "EdDSA", "kid": KEY.id, "typ": TYPE}, OTHER_KEY.sign), id="another key's signature"
        ),
        pytest.param(
            signed(
                {"alg": "EdDSA", "kid": KEY.id, "typ": TYPE, "jwk": OTHER_KEY.public_jwk()}, OTHER_KEY.sign
            ),
            id="a key of its own",
        ),
        pytest.param(mint(OTHER_KEY, a_snapshot()), id="signed by another"),
        pytest.param("", id="nothing"),
        pytest.param("a.b", id="two parts"),
        pytest.param("ä.b.c", id="not ASCII"),
        pytest.param(mint(KEY, a_snapshot()) + "=", id="padding"),
        pytest.param(mint(KEY, a_snapshot()) + "\n", id="a line break"),
        pytest.param(mint(KEY, a_snapshot(ver=2)), id="another version"),
    ],
)
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(SnapshotRefused):
        read_it(token)


@given(st.data())
def test_no_character_can_be_changed(data: st.DataObject) -> None:
    token = mint(KEY, a_snapshot())
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(
        st.characters(min_codepoint=33, max_codepoint=126).filter(lambda one: one != token[place])
    )
    with pytest.raises(SnapshotRefused):
        read_it(token[:place] + other + token[place + 1 :])


@pytest.mark.parametrize(
    "mine", [{"organization": OTHER_ORG}, {"customer": "umbrella"}, {"replica": "web-2"}, {"keys": {}}]
)
def test_what_is_signed_for_somebody_else_is_refused(mine: dict[str, Any]) -> None:
    with pytest.raises(SnapshotRefused):
        read_it(mint(KEY, a_snapshot()), **mine)


def test_it_is_read_from_its_beginning_until_it_says_nothing_any_more() -> None:
    token = mint(KEY, a_snapshot())
    moment = timedelta(microseconds=1)
    for now in (NOW - CLOCK_SKEW, NOW, TRUSTED, OVER - moment):
        read_it(token, now=now)
    with pytest.raises(SnapshotRefused):
        read_it(token, now=NOW - CLOCK_SKEW - moment)
    with pytest.raises(SnapshotOver):
        read_it(token, now=OVER)


def test_while_it_is_trusted_it_says_what_can_said() -> None:
    snapshot = a_snapshot()
    assert decide(snapshot, "chat", NOW).reason == "within_limit"
    assert decide(snapshot, "sso", NOW).answer is Answer.ALLOWED
    unknown = decide(snapshot, "other", NOW)
    assert (unknown.answer, unknown.reason, unknown.stale) == (Answer.DENIED, "feature_not_in_plan", False)


STALE = [
    (None, Answer.COULD_NOT_TELL, "stale"),
    (OnStale("open"), Answer.ALLOWED, "stale_open"),
    (OnStale("closed"), Answer.DENIED, "stale_closed"),
    (OnStale("something new"), Answer.DENIED, "stale_closed"),
    (OnStale("open_up_to", Decimal(5), "hold_1"), Answer.ALLOWED, "stale_credits"),
    (OnStale("open_up_to"), Answer.DENIED, "stale_credits_used_up"),
]


@pytest.mark.parametrize(("policy", "answer", "reason"), STALE)
def test_when_it_is_stale_the_policy_holds_until_it_is_over(
    policy: OnStale | None, answer: Answer, reason: str
) -> None:
    snapshot = with_policy(policy)
    assert not decide(snapshot, "chat", TRUSTED - timedelta(microseconds=1)).stale
    for now in (TRUSTED, OVER - timedelta(microseconds=1)):
        verdict = decide(snapshot, "chat", now)
        assert (verdict.answer, verdict.reason, verdict.stale) == (answer, reason, True)
    assert decide(snapshot, "chat", OVER).answer is Answer.COULD_NOT_TELL


@pytest.mark.parametrize(("policy", "answer", "reason"), STALE)
def test_when_time_alone_may_have_changed_it_it_is_not_trusted(
    policy: OnStale | None, answer: Answer, reason: str
) -> None:
    """A subscription that ends within the trust: from that instant on, that feature is stale."""
    ends = NOW + timedelta(seconds=30)
    snapshot = with_policy(policy, valid_until=ends)
    assert decide(snapshot, "chat", ends - timedelta(microseconds=1)).reason == "within_limit"
    verdict = decide(snapshot, "chat", ends)
    assert (verdict.answer, verdict.reason, verdict.stale) == (answer, reason, True)


def test_a_denial_too_is_not_trusted_longer_than_time_leaves_it_alone() -> None:
    """A subscription that begins within the trust."""
    begins = NOW + timedelta(seconds=30)
    snapshot = a_snapshot(unlisted=FeatureClaims(False, "no_subscription", valid_until=begins))
    assert decide(snapshot, "sso2", NOW).answer is Answer.DENIED
    assert decide(snapshot, "sso2", begins).answer is Answer.COULD_NOT_TELL


@given(held=st.decimals(0, 50, places=2), uses=st.lists(st.decimals("0.01", 20, places=2), max_size=30))
def test_what_is_given_away_is_never_more_than_what_is_held(held: Decimal, uses: list[Decimal]) -> None:
    snapshot = with_policy(OnStale("open_up_to", held, "hold_1"))
    given_away = Decimal(0)
    for amount in uses:
        verdict = decide(snapshot, "chat", TRUSTED, amount=amount, given=given_away)
        if verdict.answer is Answer.ALLOWED:
            given_away += amount
    assert given_away <= held


@given(limit=st.integers(0, 20), used=st.integers(0, 20), since=st.integers(1, 20), overage=st.booleans())
def test_usage_since_counts_by_the_servers_own_rule(limit: int, used: int, since: int, overage: bool) -> None:
    def by_the_server(units: int) -> Any:
        right = PlanRight(True, Decimal(limit), overage)
        facts = SubscriptionFacts(Status.ACTIVE, NOW, None, right, Decimal(units), None, Decimal(0), "USD")
        return decision.decide(Facts(NOW, (facts,)))

    before, after = by_the_server(used), by_the_server(used + since)
    claims = FeatureClaims(
        before.allowed,
        before.reason,
        "metered",
        used=before.used,
        limit=before.limit,
        privileges={"overage": overage},
    )
    verdict = decide(a_snapshot(features={"chat": claims}), "chat", NOW, used_since=Decimal(since))
    assert (verdict.answer is Answer.ALLOWED, verdict.reason) == (after.allowed, after.reason)


def test_where_another_subscription_may_allow_it_the_server_is_asked() -> None:
    snapshot = a_snapshot(subscriptions=[ONE, SubscriptionClaims("sub_2", "max", "active")])
    assert decide(snapshot, "chat", NOW, used_since=Decimal(2)).answer is Answer.ALLOWED
    assert decide(snapshot, "chat", NOW, used_since=Decimal(3)).answer is Answer.COULD_NOT_TELL
    alone = decide(a_snapshot(), "chat", NOW, used_since=Decimal(3))
    assert (alone.answer, alone.reason) == (Answer.DENIED, "limit_exceeded")
