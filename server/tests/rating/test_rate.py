"""Laws that hold for every charge model."""

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from nozle_server.catalog.charge_models import (
    Dynamic,
    Graduated,
    GraduatedPercentage,
    Package,
    Percentage,
    PercentageRange,
    PriceRange,
    Standard,
    Volume,
)
from nozle_server.core.money import exponent
from nozle_server.core.rounding import EXACT, to_cents
from nozle_server.rating.rate import Usage, marginal_price_cents, price_of_event, rate


def decimals(low, high):
    return st.decimals(min_value=low, max_value=high, places=12, allow_nan=False, allow_infinity=False)


prices = decimals(0, 1000)
quantities = decimals(-10, 10**9)
currencies = st.sampled_from(["JPY", "USD", "KWD", "CLF"])


@st.composite
def price_ranges(draw, *, flats=prices):
    lengths = draw(st.lists(st.integers(2, 1000), max_size=5))
    ends = list(accumulate(lengths))
    starts = [0, *(end + 1 for end in ends)]
    return tuple(
        PriceRange(start, end, draw(flats), draw(prices))
        for start, end in zip(starts, [*ends, None], strict=True)
    )


graduated = price_ranges().map(Graduated)
graduated_percentages = price_ranges().map(
    lambda ranges: GraduatedPercentage(
        tuple(
            PercentageRange(one.from_value, one.to_value, one.flat_amount, one.per_unit_amount)
            for one in ranges
        )
    )
)
plain_percentages = st.builds(Percentage, prices, prices)
charge_models = st.one_of(
    st.builds(Standard, prices),
    graduated,
    graduated_percentages,
    st.just(Dynamic()),
    price_ranges().map(Volume),
    st.builds(Package, prices, st.integers(1, 1000), st.integers(0, 1000)),
    plain_percentages,
)


@given(charge_models, quantities, st.integers(0, 1000), prices, currencies)
def test_a_line_is_the_sum_of_its_steps_rounded_once(model, units, events_count, amount, currency):
    """T05, T06."""
    line = rate(model, Usage(units, events_count, amount_cents=amount), currency=currency)
    with localcontext(EXACT):
        for step in line.steps:
            assert step.amount_cents == step.units * step.unit_price_cents + step.flat_cents
        assert line.exact_amount_cents == sum(step.amount_cents for step in line.steps)
    assert line.amount_cents == to_cents(line.exact_amount_cents)
    assert line.units >= 0
    assert line.amount_cents >= 0


@given(st.one_of(graduated, graduated_percentages), quantities, decimals(0, 10**6))
def test_a_graduated_total_never_falls_as_usage_grows(model, units, more):
    before = rate(model, Usage(units, 1), currency="USD")
    after = rate(model, Usage(units + more, 1), currency="USD")
    assert after.exact_amount_cents >= before.exact_amount_cents


@given(price_ranges(flats=st.just(Decimal(0))).map(Graduated), st.integers(0, 6000), currencies)
def test_without_flats_the_marginal_price_is_the_difference_of_two_totals(model, used, currency):
    before = rate(model, Usage(Decimal(used), 1), currency=currency)
    after = rate(model, Usage(Decimal(used + 1), 1), currency=currency)
    with localcontext(EXACT):
        difference = after.exact_amount_cents - before.exact_amount_cents
    assert marginal_price_cents(model, Decimal(used), currency=currency) == difference


@given(st.one_of(graduated, graduated_percentages), quantities)
def test_the_tiers_of_a_graduated_line_share_its_units_out(model, units):
    line = rate(model, Usage(units, 1), currency="USD")
    assert sum(step.units for step in line.steps) == line.units == max(units, 0)


@given(charge_models, quantities, currencies)
def test_no_marginal_price_is_negative(model, used, currency):
    assert marginal_price_cents(model, used, currency=currency) >= 0


@given(prices, st.lists(decimals(0, 1000), max_size=20), st.integers(1, 5), decimals(1, 1000))
def test_an_allowance_never_makes_a_percentage_dearer(percent, transactions, free_events, free_amount):
    usage = Usage(sum(transactions, Decimal(0)), len(transactions), transactions)
    full = rate(Percentage(percent, Decimal(1)), usage, currency="USD")
    eased = rate(Percentage(percent, Decimal(1), free_events, free_amount), usage, currency="USD")
    assert eased.exact_amount_cents <= full.exact_amount_cents


@given(st.builds(Standard, prices), quantities)
def test_currencies_differ_by_their_exponent_only(model, units):
    """T06."""
    yen = rate(model, Usage(units, 1), currency="JPY").exact_amount_cents
    for currency in ("USD", "KWD"):
        scaled = rate(model, Usage(units, 1), currency=currency).exact_amount_cents
        assert Fraction(scaled) == Fraction(yen) * 10 ** exponent(currency)


positive = decimals(0, 10**6)


@given(charge_models, st.lists(positive, min_size=1, max_size=12), currencies)
def test_the_events_paid_in_advance_pay_together_what_the_period_costs(model, quantities, currency):
    if isinstance(model, Volume):
        return  # falls where a tier begins, and is not sold in advance
    usages = [Usage(Decimal(0), 0)]
    for n, _units in enumerate(quantities, 1):
        total = sum(quantities[:n], Decimal(0))
        usages.append(Usage(total, n, tuple(quantities[:n]), amount_cents=total))
    lines = [price_of_event(model, before, after, currency=currency) for before, after in pairwise(usages)]
    with localcontext(EXACT):
        paid = sum((line.exact_amount_cents for line in lines), Decimal(0))
        for line in lines:
            assert line.exact_amount_cents == sum(step.amount_cents for step in line.steps)
    assert all(line.exact_amount_cents >= 0 for line in lines)
    if usages[-1].units:
        assert paid == rate(model, usages[-1], currency=currency).exact_amount_cents


@given(
    st.one_of(st.builds(Standard, prices), graduated, price_ranges().map(Volume)),
    st.lists(decimals(0, 1000), min_size=1, max_size=8),
    currencies,
)
def test_a_quantity_there_for_the_whole_period_costs_the_same_prorated(model, quantities, currency):
    total = sum(quantities, Decimal(0))
    full = rate(model, Usage(total, len(quantities)), currency=currency)
    usage = Usage(total, len(quantities), quantities, prorated_units=total, prorated_transactions=quantities)
    assert rate(model, usage, currency=currency).exact_amount_cents == full.exact_amount_cents
