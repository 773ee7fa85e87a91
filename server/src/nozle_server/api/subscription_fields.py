"""Fields of requests about subscriptions."""

from datetime import datetime

from nozle_server.core.errors import InvalidInput
from nozle_server.core.periods import BillingTime
from nozle_server.metering.timestamps import parse_instant

CREDIT_NOTE_CHOICES = ("credit", "refund", "offset", "skip")
INVOICE_CHOICES = ("generate", "skip")


def optional_instant(value: object, field: str) -> datetime | None:
    """An instant, or a date, which is its midnight in UTC; or none."""
    if value is None:
        return None
    try:
        return parse_instant(value, field)
    except InvalidInput as error:
        raise InvalidInput(str(error), code=error.code, details={field: ["invalid_date"]}) from None


def billing_time_of(text: str) -> BillingTime:
    try:
        return BillingTime(text)
    except ValueError:
        raise InvalidInput(
            "billing_time must be anniversary or calendar", details={"billing_time": ["value_is_invalid"]}
        ) from None


def choice(value: str | None, field: str, choices: tuple[str, ...]) -> str | None:
    """One of `choices`, or nothing."""
    if value is not None and value not in choices:
        raise InvalidInput(f"{field} must be one of {', '.join(choices)}", details={field: ["invalid_value"]})
    return value
