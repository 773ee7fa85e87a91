"""The texts that open doors: API keys and session tokens. Made here, shown once, kept as a hash.

A plain SHA-256 is enough, unlike for a password: each holds 190 random bits, which nobody guesses from a
hash.
"""

import hashlib
import secrets
import string

from nozle_server.identity.model import KeyKind, Mode

_ALPHABET = string.ascii_letters + string.digits
_RANDOM_CHARS = 32
_HINT_CHARS = 4

KEY_PREFIXES = {KeyKind.SECRET: "sk_", KeyKind.PUBLISHABLE: "pk_"}
SESSION_PREFIX = "csess_"


def new_key_text(kind: KeyKind, mode: Mode) -> str:
    """A fresh key such as `sk_test_…`, independent of every other."""
    return f"{KEY_PREFIXES[kind]}{mode.value}_{_random_text()}"


def new_session_token() -> str:
    return SESSION_PREFIX + _random_text()


def hash_secret(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def hint_of(key_text: str) -> str:
    """What a list of keys may show, so that its owner recognizes one: `sk_test_…a1B2`."""
    prefix, _, _ = key_text.rpartition("_")
    return f"{prefix}_…{key_text[-_HINT_CHARS:]}"


def _random_text() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))
