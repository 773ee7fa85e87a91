"""Where the next page of credit operations begins, as opaque text."""

import base64
import binascii
from uuid import UUID

from nozle_server.core.errors import InvalidInput
from nozle_server.credits.usage_model import Position

MAX_CURSOR = 4096
_LARGEST = 2**63 - 1
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def to_operation_cursor(position: Position) -> str:
    # To the base of 36, since there is a number for each of the customer's accounts.
    places = ",".join(_to_36(one) for one in position.sequences)
    return base64.urlsafe_b64encode(f"v1:{position.denial.hex}:{places}".encode()).decode().rstrip("=")


def from_operation_cursor(cursor: str | None) -> Position | None:
    """InvalidInput for text that is none of ours."""
    if cursor is None:
        return None
    try:
        if len(cursor) > MAX_CURSOR:
            raise ValueError(cursor)
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        version, denial, places = text.split(":")
        sequences = tuple(int(one, 36) for one in places.split(",")) if places else ()
        if version != "v1" or not all(0 <= one <= _LARGEST for one in sequences):
            raise ValueError(cursor)
        return Position(UUID(denial), sequences)
    except (ValueError, binascii.Error):
        raise InvalidInput(
            "the cursor is not one of ours", details={"cursor": ["value_is_invalid"]}
        ) from None


def _to_36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
