"""Names and ids from outside: one validator, so that cache, database and index agree on what is equal.

Ids are compared byte by byte as sent: case matters, nothing is trimmed or normalized. What cannot be an id (control
characters, leading or trailing blanks, too long) is refused rather than repaired.
"""

import unicodedata

from nozle_server.core.errors import InvalidInput

MAX_ID_BYTES = 255
MAX_TEXT_BYTES = 4096


def parse_id(value: object, field: str) -> str:
    """An id or code the caller made up: 1 to 255 UTF-8 bytes, no control characters, no blanks at the ends."""
    if not isinstance(value, str):
        raise InvalidInput(f"{field} must be a string", details={field: ["invalid_type"]})
    if not value.strip():
        raise InvalidInput(f"{field} is required", details={field: ["value_is_mandatory"]})
    if len(value.encode(errors="replace")) > MAX_ID_BYTES:
        raise InvalidInput(
            f"{field} is longer than {MAX_ID_BYTES} bytes", details={field: ["value_is_too_long"]}
        )
    if value != value.strip() or not is_clean(value):
        raise InvalidInput(
            f"{field} has blanks at its ends or control characters", details={field: ["value_is_invalid"]}
        )
    return value


def parse_text(value: str | None, field: str, *, max_bytes: int = MAX_TEXT_BYTES) -> str | None:
    """A name or description: any characters but controls (line breaks and tabs are fine), at most 4 KiB."""
    if value is None:
        return None
    if len(value.encode(errors="replace")) > max_bytes:
        raise InvalidInput(
            f"{field} is longer than {max_bytes} bytes", details={field: ["value_is_too_long"]}
        )
    if not is_clean(value.translate({9: None, 10: None, 13: None})):
        raise InvalidInput(f"{field} has control characters", details={field: ["value_is_invalid"]})
    return value


def is_clean(value: str) -> bool:
    """Whether text has neither control characters nor lone surrogates (PostgreSQL stores no NUL, JSON no surrogate)."""
    if value.isascii():
        return value.isprintable()
    return not any(unicodedata.category(char) in ("Cc", "Cs") for char in value)


def is_email(value: str) -> bool:
    """Whether text may be an e-mail address: something on both sides of an @, and no blanks. Only a mail can tell more."""
    name, at, host = value.rpartition("@")
    return bool(name and at and host) and not any(char.isspace() for char in value)
