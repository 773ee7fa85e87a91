"""Which key signs and which are published, as keys come and go."""

from datetime import UTC, datetime, timedelta

import pytest

from nozle_server.entitlements.signing_keys import (
    KEPT_PUBLISHED,
    PUBLISHED_AHEAD,
    SigningKey,
    signing_key,
    still_trusted,
    to_base64,
)

NOW = datetime(2026, 1, 15, tzinfo=UTC)
USE = timedelta(days=1)


def a_key(number: int, created_at: datetime) -> SigningKey:
    return SigningKey(number, bytes([number]) * 32, created_at)


def test_the_id_is_the_thumbprint_of_the_public_key() -> None:
    """RFC 8037, appendix A.3: the key of its example has this thumbprint."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey(1, seed, NOW)
    assert key.x == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key.id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_it_signs_as_everybody_else_does() -> None:
    """RFC 8037, appendix A.4."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signature = SigningKey(1, seed, NOW).sign(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc")
    assert to_base64(signature) == (
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


def test_the_first_key_signs_at_once_and_a_later_one_when_everybody_can_know_it() -> None:
    first, second = a_key(1, NOW), a_key(2, NOW + USE)
    assert signing_key([first], NOW) is first
    came = second.created_at
    assert signing_key([first, second], came + PUBLISHED_AHEAD - timedelta(seconds=1)) is first
    assert signing_key([first, second], came + PUBLISHED_AHEAD) is second
    assert PUBLISHED_AHEAD > KEPT_PUBLISHED


@pytest.mark.parametrize(("seconds", "published"), [(-1, [1, 2]), (0, [2])])
def test_an_old_key_is_published_until_nothing_it_signed_is_of_use(
    seconds: int, published: list[int]
) -> None:
    first, second = a_key(1, NOW), a_key(2, NOW + USE)
    last_signed = second.created_at + PUBLISHED_AHEAD
    at = last_signed + USE + timedelta(seconds=seconds)
    assert [one.number for one in still_trusted([first, second], at, USE)] == published
