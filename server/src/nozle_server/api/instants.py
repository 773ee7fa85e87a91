"""Instants in requests, with errors that name their field."""

import re
from datetime import date, datetime, timedelta

from nozle_server.core.errors import InvalidInput
from nozle_server.metering.timestamps import parse_instant, parse_timestamp

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def read_instant(text: str | None, field: str) -> datetime | None:
    """RFC 3339 or a date, or None for none; InvalidInput `invalid_date` on the field."""
    if text is None:
        return None
    try:
        return parse_instant(text, field)
    except InvalidInput:
        raise InvalidInput(f"{field} is not an instant", details={field: ["invalid_date"]}) from None


def read_range(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """`from` and `to` as the instants from which on and before which: of dates both are included, of instants the second
    is not (contract, Decision 4). InvalidInput for what is neither, and for a range that is empty or reversed."""
    first = None if start is None else _bound(start, "from", is_end=False)
    after = None if end is None else _bound(end, "to", is_end=True)
    if first is not None and after is not None and first >= after:
        raise InvalidInput("from lies after to", details={"from": ["value_is_out_of_range"]})
    return first, after


def _bound(text: str, field: str, *, is_end: bool) -> datetime:
    """A date covers its whole day (UTC); an instant is exact."""
    try:
        if not _DATE.fullmatch(text):
            return parse_timestamp(text)
        day = date.fromisoformat(text)
        start = parse_timestamp(f"{day}T00:00:00Z")
        return start + timedelta(days=1) if is_end else start
    except (ValueError, InvalidInput):
        raise InvalidInput(
            f"{field} is neither a date (YYYY-MM-DD) nor an instant", details={field: ["invalid_format"]}
        ) from None
