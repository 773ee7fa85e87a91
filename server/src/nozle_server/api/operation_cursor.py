"""Where the next page of credit operations begins, as opaque text."""

import base64
import binascii
from uuid import UUID

from nozle_server.core.errors import InvalidInput
from nozle_server.credits.usage_model import Position

MAX_CURSOR = 4096
_LARGEST = 2**63 - 1
_NEWEST = "*"


def to_operation_cursor(position: Position) -> str:
    denial = position.denial.hex if position.denial else ""
    # To the base of 36, and a mark for an account that is still at its newest: short, whatever there is.
    places = ",".join(_NEWEST if one == _LARGEST else _to_36(one) for one in position.sequences)
    return base64.urlsafe_b64encode(f"v1:{denial}:{places}".encode()).decode().rstrip("=")


def from_operation_cursor(cursor: str | None) -> Position | None:
    """InvalidInput for text that is none of ours."""
    if cursor is None:
        return None
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError(cursor)
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        version, denial, places = text.split(":")
        sequences = (
            tuple(_LARGEST if one == _NEWEST else int(one, 36) for one in places.split(",")) if places else ()
        )
        if version != "v1" or not all(0 <= one <= _LARGEST for one in sequences):
            raise ValueError(cursor)
        return Position(UUID(denial) if denial else None, sequences)
    except (ValueError, binascii.Error):
        raise InvalidInput(
            "the cursor is not one of ours", details={"cursor": ["value_is_invalid"]}
        ) from None


def _to_36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"
