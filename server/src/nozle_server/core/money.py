"""Currencies and settled money.

A currency knows how many decimals its minor unit has (ISO 4217: JPY 0, USD 2, KWD 3). Prices are written in
major units ("0.12" dollars), settled money is a whole number of minor units (12 cents).
"""

from dataclasses import dataclass
from decimal import Decimal

from nozle_server.core.errors import InvalidInput
from nozle_server.core.rounding import EXACT

# ISO 4217 list one, without the codes that have no minor unit (gold, testing, the SDR):
# https://www.six-group.com/en/products-services/financial-information/data-standards.html
_CODES_BY_EXPONENT = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF"
        " CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD"
        " GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL"
        " MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR"
        " PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP"
        " TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG"
        # Withdrawn since 2025; kept because invoices of before still carry them.
        " ANG BGN"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

_EXPONENTS = {code: exponent_ for exponent_, codes in _CODES_BY_EXPONENT.items() for code in codes.split()}


class MixedCurrenciesError(ValueError):
    """Two currencies met in one sum. A mistake of ours, never of the caller."""


def is_currency(code: str) -> bool:
    """Whether `code` is an ISO 4217 code with a minor unit, in capitals."""
    return code in _EXPONENTS


def exponent(code: str) -> int:
    """How many decimals the minor unit of a currency has; InvalidInput for an unknown code."""
    try:
        return _EXPONENTS[code]
    except KeyError:
        raise InvalidInput(
            "The currency is not an ISO 4217 code.", details={"currency": ["value_is_invalid"]}
        ) from None


def to_minor(major: Decimal, currency: str) -> Decimal:
    """Major to minor units, exactly: 0.125 USD is 12.5 cents."""
    return EXACT.multiply(major, _power_of_ten(exponent(currency)))


def to_major(minor: Decimal, currency: str) -> Decimal:
    """Minor to major units, exactly: 12.5 cents are 0.125 USD."""
    return EXACT.multiply(minor, _power_of_ten(-exponent(currency)))


def _power_of_ten(places: int) -> Decimal:
    # Written out: a factor of 1E+2 would make "2.9E+3" out of 29.
    return Decimal(10**places) if places >= 0 else Decimal(1).scaleb(places)


@dataclass(frozen=True, slots=True)
class Money:
    """Settled money: a whole number of minor units of one currency. May be negative (a credit)."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)

    def __add__(self, other: "Money") -> "Money":
        self._require_same_currency(other)
        return Money(self.amount + other.amount, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._require_same_currency(other)
        return Money(self.amount - other.amount, self.currency)

    def _require_same_currency(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise MixedCurrenciesError(f"cannot add {other.currency} to {self.currency}")
