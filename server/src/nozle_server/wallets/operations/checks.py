"""What is read from a caller's draft, with Lago's codes for what is wrong."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import UnsetType

from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import is_clean, parse_text
from nozle_server.metering.timestamps import parse_instant
from nozle_server.wallets.conversion import (
    money_of,
    price_of,
    settled,
    shown_credits,
    spendable_cents,
    whole_credits,
)
from nozle_server.wallets.drafts import MetadataDraft
from nozle_server.wallets.model import LOWEST_PRIORITY, Wallet

MAX_METADATA_KEYS = 15
MAX_WALLET_METADATA_KEYS = 50


def refused(field: str, *codes: str, what: str = "is not valid") -> InvalidInput:
    return InvalidInput(f"{field} {what}", details={field: list(codes)})


def parse_credits(value: object, field: str) -> Decimal:
    """Credits of a draft, to 5 decimals; 0 for none. Negative ones and what is no number carry two codes, as Lago's."""
    if value is None:
        return Decimal(0)
    try:
        return whole_credits(parse_amount(value, field, minimum=Decimal(0)))
    except InvalidInput:
        raise refused(
            field, f"invalid_{field}", "invalid_amount", what="is not an amount of credits"
        ) from None


def given_value(credits: Decimal, wallet: Wallet, field: str) -> Decimal:
    """What credits to give or take are worth, exactly; refused when the ledger cannot hold that, or when it rounds to
    nothing."""
    amount = money_of(credits, wallet.rate_amount)
    if amount is None:
        raise refused(field, f"invalid_{field}", "invalid_amount", what="cannot be kept exactly")
    _refuse_nothing(credits, amount, wallet, field)
    return amount


def voided_value(credits: Decimal, wallet: Wallet) -> Decimal:
    """What credits to take back are worth. All that the wallet shows is all that it holds: its credits are shown to 5
    decimals, and money behind the fifth could not be named otherwise."""
    if credits == shown_credits(wallet.balance, wallet.rate_amount):
        return wallet.balance
    return given_value(credits, wallet, "voided_credits")


def bought_value(credits: Decimal, wallet: Wallet, field: str) -> Decimal:
    """What credits to buy cost, in whole minor units; refused when that is too much, or nothing."""
    amount = price_of(credits, wallet.rate_amount, wallet.currency)
    if amount is None:
        raise refused(field, f"invalid_{field}", "invalid_amount", what="costs too much")
    _refuse_nothing(credits, amount, wallet, field)
    return amount


def check_purchase(credits: Decimal, wallet: Wallet, *, ignore_limits: bool) -> None:
    """Refuse a purchase of credits that costs nothing, too much, or what the wallet's limits for one forbid."""
    amount = bought_value(credits, wallet, "paid_credits")
    if not credits or ignore_limits:
        return
    cents = spendable_cents(amount, wallet.currency)
    least, most = wallet.paid_top_up_min_amount_cents, wallet.paid_top_up_max_amount_cents
    if least is not None and cents < least:
        raise refused(
            "paid_credits", "amount_below_minimum", what="cost less than the wallet's smallest top-up"
        )
    if most is not None and cents > most:
        raise refused(
            "paid_credits", "amount_above_maximum", what="cost more than the wallet's largest top-up"
        )


def _refuse_nothing(credits: Decimal, amount: Decimal, wallet: Wallet, field: str) -> None:
    if credits and not settled(amount, wallet.currency):
        raise refused(field, "amount_rounds_to_zero", what="is worth less than half a minor unit")


def parse_priority(value: int | None) -> int:
    if value is None:
        return LOWEST_PRIORITY
    if not 1 <= value <= LOWEST_PRIORITY:
        raise refused("priority", "value_is_invalid", what=f"must be from 1 to {LOWEST_PRIORITY}")
    return value


def parse_expiration(
    value: str | UnsetType | None, now: datetime, field: str = "expiration_at"
) -> datetime | None:
    """An instant ahead of `now`, or none."""
    at = parse_start(value, field)
    if at is not None and at <= now:
        raise refused(field, "invalid_date", what="lies in the past")
    return at


def parse_start(value: str | UnsetType | None, field: str = "started_at") -> datetime | None:
    """An instant, or a date, which is its midnight in UTC; or none."""
    if not value:  # UNSET is falsy too
        return None
    try:
        return parse_instant(value, field)
    except InvalidInput:
        raise refused(field, "invalid_date", what="is not an instant") from None


def parse_name(value: str | None, field: str = "name") -> str | None:
    return parse_text(value, field, max_bytes=255) or None


def parse_entries(value: Sequence[MetadataDraft] | UnsetType | None, field: str) -> list[dict[str, str]]:
    """A transaction's metadata: at most 15 entries of a key and a value."""
    if not value:  # UNSET is falsy too
        return []
    if len(value) > MAX_METADATA_KEYS:
        raise refused(field, "too_many_keys", what=f"has more than {MAX_METADATA_KEYS} entries")
    for one in value:
        if not parse_text(one.key, field, max_bytes=80):
            raise refused(field, "invalid_key_value_pair", what="has an entry without a key")
        parse_text(one.value, field, max_bytes=1020)
    return [{"key": one.key, "value": one.value} for one in value]


def parse_metadata(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """A wallet's metadata: at most 50 names of 100 characters, each with a text of 255 or null."""
    if value is None:
        return None
    if len(value) > MAX_WALLET_METADATA_KEYS:
        raise refused("metadata", "too_many_keys", what=f"has more than {MAX_WALLET_METADATA_KEYS} keys")
    for key, text in value.items():
        if not key or len(key) > 100 or not is_clean(key):
            raise refused(
                "metadata", "key_too_long", what="has a key that is empty or longer than 100 characters"
            )
        if text is not None and (not isinstance(text, str) or len(text) > 255):
            raise refused(
                "metadata", "value_is_invalid", what="has a value that is no text of 255 characters"
            )
        parse_text(text, "metadata")
    return value
