"""Taxes on an invoice: by line, by tax and in all, to the cent."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core.rounding import to_cents
from nozle_server.taxes.apply import TaxableLine, Taxation, choose, compute_taxes
from nozle_server.taxes.model import Tax

NOWHERE = UUID(int=0)
THEN = datetime(2026, 1, 1, tzinfo=UTC)


def tax(code: str, rate: str | Decimal = "20") -> Tax:
    return Tax(NOWHERE, uuid5(NOWHERE, code), code, code, None, Decimal(rate), False, THEN, THEN)


VAT, CITY, ZERO, HALF = tax("vat"), tax("city", "10"), tax("zero", "0"), tax("half", "0.5")


def taxed(*lines: tuple[str, tuple[Tax, ...]]) -> Taxation:
    return compute_taxes([TaxableLine(Decimal(base), taxes) for base, taxes in lines])


# lines -> each line's taxes, each tax's (code, base, amount), the invoice's taxes, its rate
CASES = [
    ("no lines", [], [], [], 0, "0"),
    ("no taxes", [("100", ())], [0], [], 0, "0"),
    ("one", [("1000", (VAT,))], [200], [("vat", 1000, 200)], 200, "20"),
    (
        "two add up on one base",
        [("1000", (VAT, CITY))],
        [300],
        [("vat", 1000, 200), ("city", 1000, 100)],
        300,
        "30",
    ),
    ("0 %", [("1000", (ZERO,))], [0], [("zero", 1000, 0)], 0, "0"),
    ("half a cent, up", [("100", (HALF,))], [1], [("half", 100, 1)], 1, "0.5"),
    ("under half a cent", [("99", (HALF,))], [0], [("half", 99, 0)], 0, "0.5"),
    ("two halves are one", [("100", (HALF,)), ("100", (HALF,))], [1, 0], [("half", 200, 1)], 1, "0.5"),
    (
        "each line would round down",
        [("80", (HALF,)), ("80", (HALF,)), ("80", (HALF,))],
        [1, 0, 0],
        [("half", 240, 1)],
        1,
        "0.5",
    ),
    ("two halves by tax", [("100", (HALF, tax("b", "0.5")))], [1], [("half", 100, 1), ("b", 100, 0)], 1, "1"),
    (
        "lines with different taxes",
        [("1000", (VAT,)), ("500", (CITY,)), ("250", ()), ("100", (VAT, CITY))],
        [200, 50, 0, 30],
        [("vat", 1100, 220), ("city", 600, 60)],
        280,
        "15.13514",
    ),
    (
        "a base after coupons",
        [("333.333", (VAT,)), ("666.667", (VAT,))],
        [67, 133],
        [("vat", 1000, 200)],
        200,
        "20",
    ),
    ("JPY: whole yen", [("5", (CITY,))], [1], [("city", 5, 1)], 1, "10"),
    ("KWD: thousandths", [("12345", (tax("kw", "5"),))], [617], [("kw", 12345, 617)], 617, "5"),
    (
        "a rate with many digits",
        [("100", (tax("f", "33.333333333333"),))],
        [33],
        [("f", 100, 33)],
        33,
        "33.33333",
    ),
    (
        "an invoice over nothing",
        [("0", (VAT,)), ("0", (CITY,))],
        [0, 0],
        [("vat", 0, 0), ("city", 0, 0)],
        0,
        "15",
    ),
    ("a credit mirrors its charge", [("-100", (HALF,))], [-1], [("half", -100, -1)], -1, "0.5"),
    (
        "a charge and its credit",
        [("100", (HALF,)), ("-100", (HALF,))],
        [0, 0],
        [("half", 0, 0)],
        0,
        "0.5",
    ),
]


@pytest.mark.parametrize(
    ("lines", "by_line", "by_tax", "total", "rate"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_the_taxes_come_to(
    lines: list[tuple[str, tuple[Tax, ...]]],
    by_line: list[int],
    by_tax: list[tuple[str, int, int]],
    total: int,
    rate: str,
) -> None:
    found = taxed(*lines)
    assert [one.taxes_amount_cents for one in found.lines] == by_line
    assert [(one.tax.code, one.base_cents, one.amount_cents) for one in found.taxes] == by_tax
    assert found.taxes_amount_cents == total
    assert found.taxes_rate == Decimal(rate)


def test_a_line_tells_its_rate_and_each_tax_exactly() -> None:
    [line] = taxed(("33.3", (VAT, CITY))).lines
    assert (line.rate, line.exact_taxes_amount_cents, line.taxes_amount_cents) == (30, Decimal("9.99"), 10)
    assert [(one.exact_amount_cents, one.amount_cents) for one in line.taxes] == [
        (Decimal("6.66"), 7),
        (Decimal("3.33"), 3),
    ]


TAXES = [VAT, CITY, ZERO, HALF, tax("odd", "7.777777777777"), tax("big", "123.4")]
lines_of_an_invoice = st.lists(
    st.builds(
        TaxableLine,
        st.decimals(min_value=0, max_value=10**12, places=6, allow_nan=False, allow_infinity=False),
        st.lists(st.sampled_from(TAXES), unique=True, max_size=4).map(tuple),
    ),
    max_size=12,
)


@given(lines_of_an_invoice)
def test_lines_and_taxes_and_the_invoice_agree_to_the_cent(lines: list[TaxableLine]) -> None:
    """T: taxes of the lines = amounts of the taxes = taxes of the invoice = the exact sum, rounded once."""
    found = compute_taxes(lines)
    exact = sum((line.base_cents * tax.rate / 100 for line in lines for tax in line.taxes), Decimal(0))
    assert found.taxes_amount_cents == to_cents(exact)
    assert sum(line.taxes_amount_cents for line in found.lines) == found.taxes_amount_cents
    assert sum(one.amount_cents for one in found.taxes) == found.taxes_amount_cents
    for line in found.lines:
        assert sum(one.amount_cents for one in line.taxes) == line.taxes_amount_cents
        assert abs(line.taxes_amount_cents - line.exact_taxes_amount_cents) < 1
    for one in found.taxes:
        assert abs(one.amount_cents - one.exact_amount_cents) < 1


@given(lines_of_an_invoice)
def test_a_credit_of_everything_gives_back_exactly_the_tax(lines: list[TaxableLine]) -> None:
    there = compute_taxes(lines)
    back = compute_taxes([TaxableLine(-line.base_cents, line.taxes) for line in lines])
    assert back.taxes_amount_cents == -there.taxes_amount_cents
    assert [-one.taxes_amount_cents for one in back.lines] == [one.taxes_amount_cents for one in there.lines]
    assert [-one.amount_cents for one in back.taxes] == [one.amount_cents for one in there.taxes]


@given(lines_of_an_invoice)
def test_exact_amounts_are_exact(lines: list[TaxableLine]) -> None:
    for line, found in zip(lines, compute_taxes(lines).lines, strict=True):
        assert Fraction(found.exact_taxes_amount_cents) == sum(
            Fraction(line.base_cents) * Fraction(one.rate) / 100 for one in line.taxes
        )


@pytest.mark.parametrize(
    ("line_codes", "plan_codes", "chosen"),
    [
        ((), (), ["otherwise"]),
        ((), ("city",), ["city"]),
        (("vat",), ("city",), ["vat"]),
        (("zero",), (), ["zero"]),  # exempt on purpose
        (("vat", "city", "vat"), (), ["vat", "city"]),
        (("gone",), ("city",), ["city"]),
        (("gone",), ("gone",), ["otherwise"]),
        (("gone", "vat"), ("city",), ["vat"]),
    ],
)
def test_the_nearest_level_that_names_a_tax_decides_alone(
    line_codes: tuple[str, ...], plan_codes: tuple[str, ...], chosen: list[str]
) -> None:
    known = {one.code: one for one in (VAT, CITY, ZERO)}
    found = choose(line_codes, plan_codes, known=known, otherwise=[tax("otherwise")])
    assert [one.code for one in found] == chosen
