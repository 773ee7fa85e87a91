"""Keys are independent, random enough, and never stored as text."""

import re

from nozle_server.identity.model import KeyKind, Mode
from nozle_server.identity.tokens import hash_secret, hint_of, new_key_text, new_session_token


def test_a_key_shows_its_kind_and_mode() -> None:
    assert re.fullmatch(r"sk_test_[A-Za-z0-9]{32}", new_key_text(KeyKind.SECRET, Mode.TEST))
    assert re.fullmatch(r"pk_live_[A-Za-z0-9]{32}", new_key_text(KeyKind.PUBLISHABLE, Mode.LIVE))
    assert re.fullmatch(r"csess_[A-Za-z0-9]{32}", new_session_token())


def test_no_two_keys_share_their_random_part() -> None:
    keys = {new_key_text(kind, mode)[8:] for kind in KeyKind for mode in Mode for _ in range(500)}
    assert len(keys) == 2000


def test_a_hint_tells_a_key_without_telling_it() -> None:
    key = new_key_text(KeyKind.SECRET, Mode.TEST)
    assert hint_of(key) == f"sk_test_…{key[-4:]}"


def test_a_hash_is_sha_256() -> None:
    assert hash_secret("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
