"""Which taxes a line pays, and what they come to: https://getlago.com/docs/guide/invoicing/invoicing-settings/taxes.

Amounts are minor units of one currency. Several taxes on a line add up on the same base; none is taxed by another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

from nozle_server.core.allocation import settle
from nozle_server.core.rounding import EXACT, divide, round_half_away, to_cents
from nozle_server.taxes.model import Tax

RATE_PLACES = 5
"""Decimals of an invoice's overall rate, as Lago shows it."""

_PERCENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class TaxableLine:
    """What is left of a line after its coupons, exactly, and the taxes it pays."""

    base_cents: Decimal
    taxes: tuple[Tax, ...]


@dataclass(frozen=True, slots=True)
class TaxAmount:
    """One tax on one line: exact, and settled so that a line's add up to its `taxes_amount_cents`."""

    tax: Tax
    exact_amount_cents: Decimal
    amount_cents: int


@dataclass(frozen=True, slots=True)
class TaxedLine:
    """A line's taxes; `rate` is their sum in percent."""

    rate: Decimal
    exact_taxes_amount_cents: Decimal
    taxes_amount_cents: int
    taxes: tuple[TaxAmount, ...]


@dataclass(frozen=True, slots=True)
class TaxTotal:
    """One tax on the whole invoice: on how much, rounded, and how much."""

    tax: Tax
    base_cents: int
    exact_amount_cents: Decimal
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Taxation:
    """An invoice's taxes: by line in the order given, by tax in order of first appearance, and in all.

    `taxes_amount_cents` is the sum of the lines' and also the sum of the taxes'. `taxes_rate` is the rate, in percent to
    5 places, that the invoice pays as a whole.
    """

    lines: tuple[TaxedLine, ...]
    taxes: tuple[TaxTotal, ...]
    taxes_amount_cents: int
    taxes_rate: Decimal


def choose(
    line_codes: Sequence[str],
    plan_codes: Sequence[str],
    *,
    known: Mapping[str, Tax],
    otherwise: Sequence[Tax],
) -> tuple[Tax, ...]:
    """The taxes of a line: those its charge, add-on, fixed charge or commitment names, else those its plan names, else
    `otherwise` (the customer's, else the organization's: `queries.customer_or_default_taxes`).

    `known` are the taxes that exist, by code; a code that is not there counts as not named. For a line that belongs to
    no plan, `plan_codes` is empty.
    """
    for codes in (line_codes, plan_codes):
        named = tuple(known[code] for code in dict.fromkeys(codes) if code in known)
        if named:
            return named
    return tuple(otherwise)


def compute_taxes(lines: Sequence[TaxableLine]) -> Taxation:
    """What the lines of an invoice pay. The total is rounded once, half away from zero, from the exact sum over all
    lines and taxes (as Lago); the parts are settled to add up to it by line and by tax."""
    with localcontext(EXACT):
        exact = [[line.base_cents * tax.rate * _PERCENT for tax in line.taxes] for line in lines]
        line_sums = [sum(amounts, Decimal(0)) for amounts in exact]
        bases: dict[Tax, Decimal] = {}
        sums: dict[Tax, Decimal] = {}
        for line, amounts in zip(lines, exact, strict=True):
            for tax, amount in zip(line.taxes, amounts, strict=True):
                bases[tax] = bases.get(tax, Decimal(0)) + line.base_cents
                sums[tax] = sums.get(tax, Decimal(0)) + amount
    settled_lines = settle(line_sums)
    settled_taxes = settle(list(sums.values()))
    assert sum(settled_lines) == sum(settled_taxes), "both are the exact sum, rounded once"
    return Taxation(
        lines=tuple(map(_taxed, lines, exact, line_sums, settled_lines)),
        taxes=tuple(
            TaxTotal(tax, to_cents(bases[tax]), sums[tax], amount)
            for tax, amount in zip(sums, settled_taxes, strict=True)
        ),
        taxes_amount_cents=sum(settled_lines),
        taxes_rate=_overall_rate(lines, line_sums),
    )


def _taxed(line: TaxableLine, exact: Sequence[Decimal], exact_sum: Decimal, settled: int) -> TaxedLine:
    amounts = settle(exact, settled)
    with localcontext(EXACT):
        rate = sum((tax.rate for tax in line.taxes), Decimal(0))
    taxes = tuple(map(TaxAmount, line.taxes, exact, amounts))
    return TaxedLine(rate, exact_sum, settled, taxes)


def _overall_rate(lines: Sequence[TaxableLine], line_sums: Sequence[Decimal]) -> Decimal:
    """Taxes in percent of what is taxed; of an invoice over nothing, the mean of its lines' rates."""
    if not lines:
        return Decimal(0)
    with localcontext(EXACT):
        base = sum((line.base_cents for line in lines), Decimal(0))
        if base:
            rate = divide(sum(line_sums, Decimal(0)) * 100, base)
        else:
            rates = sum((tax.rate for line in lines for tax in line.taxes), Decimal(0))
            rate = divide(rates, Decimal(len(lines)))
    return round_half_away(rate, RATE_PLACES)
