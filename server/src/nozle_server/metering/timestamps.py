"""When an event happened, as callers write it: unix seconds (number or string, with fractions) or RFC 3339."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from nozle_server.core.errors import InvalidInput

FUTURE_ALLOWANCE = timedelta(hours=24)

_UNIX = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END_OF_TIME = datetime(9000, 1, 1, tzinfo=UTC)


def parse_timestamp(value: object, field: str = "timestamp") -> datetime:
    """The instant in `field`, in UTC, to the microsecond (further digits are cut off).

    InvalidInput for anything else, and for an instant outside the years 1970 to 8999, where every calendar of ours
    still works. Whether an instant lies too far ahead is the caller's question (`check_not_ahead`).
    """
    instant = _parse(value, field)
    if not _EPOCH <= instant < _END_OF_TIME:
        raise _invalid(field, "lies outside the years 1970 to 8999")
    return instant


def parse_instant(value: object, field: str) -> datetime:
    """As `parse_timestamp`; a date by itself is its midnight in UTC, as those know it who come from Lago."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        value = f"{value}T00:00:00Z"
    return parse_timestamp(value, field)


def check_not_ahead(occurred_at: datetime, now: datetime) -> None:
    """InvalidInput for an event more than 24 hours after `now`: clients' clocks differ, but not by more."""
    if occurred_at > now + FUTURE_ALLOWANCE:
        raise InvalidInput(
            "timestamp lies more than 24 hours ahead",
            code="timestamp_in_future",
            details={"timestamp": ["in_future"]},
        )


def _parse(value: object, field: str) -> datetime:
    if isinstance(value, bool):
        raise _invalid(field, "is not a time")
    if isinstance(value, int | Decimal):
        value = format(value, "f") if isinstance(value, Decimal) else str(value)
    if not isinstance(value, str):
        raise _invalid(field, "is not a time")
    try:
        if _UNIX.fullmatch(value):
            microseconds = int(Decimal(value) * 1_000_000)
            return _EPOCH + timedelta(microseconds=microseconds)
        if found := _RFC3339.fullmatch(value):
            day, clock, fraction, zone = found.groups()
            text = f"{day}T{clock}{(fraction or '')[:7]}{'+00:00' if zone in 'Zz' else zone}"
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _invalid(field, "is neither unix seconds nor RFC 3339")


def _invalid(field: str, what: str) -> InvalidInput:
    return InvalidInput(f"{field} {what}", code="invalid_timestamp", details={field: ["invalid_format"]})
