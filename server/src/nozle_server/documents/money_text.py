"""Amounts, prices, quantities and days as people read them, the same in every locale: 1,234.56 and 15 Mar 2026.

Nothing is rounded here: a settled amount has its currency's decimals, everything else as many as it has. A negative number
has the typographic minus.
"""

from datetime import date
from decimal import Decimal

from nozle_server.core.money import exponent, to_major
from nozle_server.core.numbers import to_plain

# The symbols of English texts in the Unicode CLDR, where each belongs to one currency alone; the rest are shown by code.
# https://github.com/unicode-org/cldr-json/blob/main/cldr-json/cldr-numbers-full/main/en/currencies.json
_SYMBOLS = {
    "AUD": "A$",
    "BRL": "R$",
    "CAD": "CA$",
    "CNY": "CN¥",
    "EUR": "€",
    "GBP": "£",
    "HKD": "HK$",
    "ILS": "₪",
    "INR": "₹",
    "JPY": "¥",
    "KRW": "₩",
    "MXN": "MX$",
    "NZD": "NZ$",
    "PHP": "₱",
    "TWD": "NT$",
    "USD": "$",
    "VND": "₫",
    "XCD": "EC$",
}
_MINUS = "−"
_NO_BREAK_SPACE = "\u00a0"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def amount_text(amount_cents: int, currency: str) -> str:
    """A settled amount, for a column whose head names the currency.

    >>> amount_text(123456, "USD"), amount_text(-1234, "JPY"), amount_text(5, "KWD")
    ('1,234.56', '−1,234', '0.005')
    """
    places = exponent(currency)
    whole, fraction = divmod(abs(amount_cents), 10**places)
    text = f"{whole:,}" + (f".{fraction:0{places}d}" if places else "")
    return _MINUS + text if amount_cents < 0 else text


def money_text(amount_cents: int, currency: str) -> str:
    """A settled amount that stands alone.

    >>> money_text(123456, "USD"), money_text(-1234, "JPY"), money_text(5, "KWD")
    ('$1,234.56', '−¥1,234', 'KWD\\xa00.005')
    """
    sign = _MINUS if amount_cents < 0 else ""
    symbol = _SYMBOLS.get(currency) or currency + _NO_BREAK_SPACE
    return sign + symbol + amount_text(abs(amount_cents), currency)


def price_text(price: Decimal, currency: str) -> str:
    """A price in major units: all its digits, and at least the currency's decimals.

    >>> price_text(Decimal("0.5"), "USD"), price_text(Decimal("1e-12"), "USD"), price_text(Decimal("1200"), "JPY")
    ('0.50', '0.000000000001', '1,200')
    """
    return _grouped(price, at_least=exponent(currency))


def exact_amount_text(amount_cents: Decimal, currency: str) -> str:
    """An amount before it is rounded, given in minor units, shown in major ones.

    >>> exact_amount_text(Decimal("12.345"), "USD"), exact_amount_text(Decimal("10"), "USD")
    ('0.12345', '0.10')
    """
    return price_text(to_major(amount_cents, currency), currency)


def units_text(units: Decimal) -> str:
    """A quantity, its thousands set apart.

    >>> units_text(Decimal("22361870")), units_text(Decimal("0.500")), units_text(Decimal("1E+3"))
    ('22,361,870', '0.5', '1,000')
    """
    return _grouped(units, at_least=0)


def rate_text(percent: Decimal) -> str:
    """
    >>> rate_text(Decimal("20.00")), rate_text(Decimal("5.5"))
    ('20%', '5.5%')
    """
    return f"{_grouped(percent, at_least=0)}%"


def day_text(day: date) -> str:
    """
    >>> day_text(date(2026, 3, 15))
    '15 Mar 2026'
    """
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def days_text(first: date, last: date) -> str:
    """Both included. What the two have in common is said once.

    >>> days_text(date(2026, 1, 1), date(2026, 1, 31)), days_text(date(2025, 12, 15), date(2026, 1, 14))
    ('1 – 31 Jan 2026', '15 Dec 2025 – 14 Jan 2026')
    """
    if first >= last:
        return day_text(last)
    if first.year != last.year:
        return f"{day_text(first)} – {day_text(last)}"
    if first.month != last.month:
        return f"{first.day} {_MONTHS[first.month - 1]} – {day_text(last)}"
    return f"{first.day} – {day_text(last)}"


def _grouped(number: Decimal, *, at_least: int) -> str:
    whole, _, fraction = to_plain(number.copy_abs()).partition(".")
    fraction = fraction.ljust(at_least, "0")
    text = f"{int(whole):,}" + (f".{fraction}" if fraction else "")
    return _MINUS + text if number < 0 else text
