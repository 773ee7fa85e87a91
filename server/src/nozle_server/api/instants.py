"""Instants in requests, with errors that name their field."""

from datetime import datetime

from nozle_server.core.errors import InvalidInput
from nozle_server.metering.timestamps import parse_instant


def read_instant(text: str | None, field: str) -> datetime | None:
    """RFC 3339 or a date, or None for none; InvalidInput `invalid_date` on the field."""
    if text is None:
        return None
    try:
        return parse_instant(text, field)
    except InvalidInput:
        raise InvalidInput(f"{field} is not an instant", details={field: ["invalid_date"]}) from None
