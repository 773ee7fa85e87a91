"""What coupons take off an invoice, in which order, to the cent."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.coupons.apply import DiscountableLine, plan_discounts
from nozle_server.coupons.limits import overlap
from nozle_server.coupons.model import AppliedCoupon, Coupon, CouponType, Frequency, Limits, Terms

NOWHERE = UUID(int=0)
THEN = datetime(2026, 1, 1, tzinfo=UTC)


def id_of(name: str) -> UUID:
    return uuid5(NOWHERE, name)


def ids(names: str | None) -> frozenset[UUID]:
    return frozenset(id_of(name) for name in (names or "").split())


def limits(*, plans: str | None = None, metrics: str | None = None) -> Limits:
    return Limits(
        limited_plans=plans is not None,
        limited_billable_metrics=metrics is not None,
        plan_ids=ids(plans),
        metric_ids=ids(metrics),
    )


def applied(
    name: str,
    *,
    cents: int | None = None,
    percent: str | None = None,
    currency: str = "USD",
    frequency: str = "once",
    used: int = 0,
    day: int = 0,
    plans: str | None = None,
    metrics: str | None = None,
) -> AppliedCoupon:
    """A coupon that a customer got on the day."""
    fixed = cents is not None
    terms = Terms(
        amount_cents=cents,
        currency=currency if fixed else None,
        percentage_rate=None if percent is None else Decimal(percent),
        frequency=Frequency(frequency),
        frequency_duration=3 if frequency == "recurring" else None,
    )
    coupon = Coupon(
        org_id=NOWHERE,
        id=id_of(f"coupon {name}"),
        code=name,
        name=name,
        description=None,
        coupon_type=CouponType.FIXED_AMOUNT if fixed else CouponType.PERCENTAGE,
        terms=terms,
        limits=limits(plans=plans, metrics=metrics),
        expiration_at=None,
        reusable=True,
        created_at=THEN,
        updated_at=THEN,
    )
    return AppliedCoupon(
        org_id=NOWHERE,
        id=id_of(name),
        coupon=coupon,
        customer_id=NOWHERE,
        external_customer_id="acme",
        terms=terms,
        frequency_duration_remaining=terms.frequency_duration,
        used_cents=used,
        status="active",
        terminated_at=None,
        created_at=THEN + timedelta(days=day),
    )


def line(
    cents: int, *, plan: str | None = "pro", metric: str | None = None, kind: str = "charge"
) -> DiscountableLine:
    return DiscountableLine(kind, id_of(plan) if plan else None, id_of(metric) if metric else None, cents)


FEE = line(1000, kind="subscription")
TOKENS = line(600, metric="tokens")
CALLS = line(400, metric="calls")

CASES: list[tuple[str, list[DiscountableLine], list[AppliedCoupon], list[tuple[str, int]]]] = [
    ("nothing to pay", [line(0)], [applied("a", cents=500)], []),
    ("no lines", [], [applied("a", percent="10")], []),
    ("fixed", [FEE], [applied("a", cents=300)], [("a", 300)]),
    ("fixed, more than there is", [FEE], [applied("a", cents=3000)], [("a", 1000)]),
    ("once: only what is left of it", [FEE], [applied("a", cents=3000, used=2900)], [("a", 100)]),
    ("once: used up", [FEE], [applied("a", cents=3000, used=3000)], []),
    (
        "recurring: all of it each time",
        [FEE],
        [applied("a", cents=800, used=9000, frequency="recurring")],
        [("a", 800)],
    ),
    (
        "forever: all of it each time",
        [FEE],
        [applied("a", cents=800, used=9000, frequency="forever")],
        [("a", 800)],
    ),
    ("another currency", [FEE], [applied("a", cents=300, currency="EUR")], []),
    ("a percentage has no currency", [FEE], [applied("a", percent="10")], [("a", 100)]),
    ("percent: half a cent, up", [line(5)], [applied("a", percent="10")], [("a", 1)]),
    ("percent: under half a cent", [line(4)], [applied("a", percent="10")], []),
    ("percent: 100", [FEE, TOKENS], [applied("a", percent="100")], [("a", 1600)]),
    ("percent: more than 100", [FEE], [applied("a", percent="150")], [("a", 1000)]),
    (
        "a percentage is of the rest",
        [FEE],
        [applied("b", percent="10", day=1), applied("a", cents=300)],
        [("a", 300), ("b", 70)],
    ),
    (
        "two percentages",
        [FEE],
        [applied("a", percent="10"), applied("b", percent="10", day=1)],
        [("a", 100), ("b", 90)],
    ),
    (
        "metrics first, then plans, then the rest, each by age",
        [FEE, TOKENS],
        [
            applied("all old", cents=10, day=0),
            applied("plan", cents=20, day=1, plans="pro"),
            applied("metric", cents=30, day=2, metrics="tokens"),
            applied("all new", cents=40, day=3),
            applied("plan new", cents=50, day=4, plans="pro"),
        ],
        [("metric", 30), ("plan", 20), ("plan new", 50), ("all old", 10), ("all new", 40)],
    ),
    (
        "a metric's own lines only",
        [FEE, TOKENS, CALLS],
        [applied("a", cents=900, metrics="tokens")],
        [("a", 600)],
    ),
    ("percent of a metric", [FEE, TOKENS], [applied("a", percent="50", metrics="tokens")], [("a", 300)]),
    (
        "a plan's own lines only",
        [FEE, line(500, plan="team")],
        [applied("a", cents=900, plans="team")],
        [("a", 500)],
    ),
    ("a plan that is not there", [FEE], [applied("a", percent="50", plans="team")], []),
    ("a limit whose plans are gone", [FEE], [applied("a", percent="50", plans="")], []),
    (
        "the first takes all",
        [TOKENS],
        [applied("a", cents=600, metrics="tokens"), applied("b", percent="50", day=1)],
        [("a", 600)],
    ),
    (
        "add-ons are left alone",
        [line(700, plan=None, kind="add_on"), FEE],
        [applied("a", cents=2000)],
        [("a", 1000)],
    ),
    (
        "bought credits are left alone",
        [line(700, plan=None, kind="credit")],
        [applied("a", percent="50")],
        [],
    ),
    ("the invoice stays above 0", [FEE, line(-800)], [applied("a", cents=500)], [("a", 200)]),
    (
        "a fraction of a cent is nobody's",
        [line(1, metric="a"), line(2, metric="b")],
        [
            applied("a", cents=1, metrics="a b"),
            applied("b", percent="100", metrics="a", day=1),
            applied("c", percent="100", day=2),
        ],
        [("a", 1), ("c", 2)],
    ),
]


@pytest.mark.parametrize(
    ("lines", "coupons", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_comes_off_and_in_which_order(
    lines: list[DiscountableLine], coupons: list[AppliedCoupon], expected: list[tuple[str, int]]
) -> None:
    names = {one.id: one.coupon.code for one in coupons}
    found = plan_discounts(lines, coupons, currency="USD")
    assert [(names[one.applied_coupon_id], one.amount_cents) for one in found] == expected


def test_shares_are_in_proportion_and_exact() -> None:
    """A line's tax is computed on what its coupons leave of it, exactly."""
    [discount] = plan_discounts([line(200), line(100), line(0)], [applied("a", cents=100)], currency="USD")
    third = Decimal("0.333333333333333333333333")
    assert discount.per_line == (66 + 2 * third + Decimal("1E-24"), 33 + third, 0)
    [limited] = plan_discounts(
        [FEE, TOKENS, CALLS], [applied("a", percent="25", metrics="tokens")], currency="USD"
    )
    assert limited.per_line == (0, 150, 0)


METRICS = st.sampled_from([None, "a", "b", "c"])
LINES = st.lists(
    st.builds(
        lambda cents, plan, metric, kind: line(cents, plan=plan, metric=metric, kind=kind),
        st.one_of(st.integers(0, 30), st.integers(-(10**6), 10**15)),
        st.sampled_from([None, "p", "q"]),
        METRICS,
        st.sampled_from(["charge", "subscription", "add_on"]),
    ),
    max_size=8,
)


@st.composite
def some_coupons(draw: st.DrawFn) -> list[AppliedCoupon]:
    found = []
    for n in range(draw(st.integers(0, 6))):
        more: dict[str, Any] = draw(
            st.sampled_from([{}, {"metrics": "a b"}, {"metrics": "b c"}, {"plans": "p"}, {"plans": "p q"}])
        )
        if draw(st.booleans()):
            more = {
                **more,
                "cents": draw(st.integers(0, 100)),
                "frequency": draw(st.sampled_from(["once", "forever"])),
            }
        else:
            rate = draw(st.decimals(min_value="0.001", max_value=120, places=3))
            more = {**more, "percent": str(rate)}
        found.append(applied(f"c{n}", day=draw(st.integers(0, 3)), **more))
    return found


@given(LINES, some_coupons())
def test_no_line_and_no_invoice_falls_below_nothing(
    lines: list[DiscountableLine], coupons: list[AppliedCoupon]
) -> None:
    """The shares of a discount sum to its amount; no line gives more than it has, none gives back."""
    found = plan_discounts(lines, coupons, currency="USD")
    for one in found:
        assert one.amount_cents > 0
        assert sum(map(Fraction, one.per_line)) == one.amount_cents
        assert all(share >= 0 for share in one.per_line)
    for i, each in enumerate(lines):
        taken = sum(Fraction(one.per_line[i]) for one in found)
        assert taken <= (0 if each.kind == "add_on" else max(each.amount_cents, 0))
    discountable = sum(each.amount_cents for each in lines if each.kind != "add_on")
    if found:
        assert sum(one.amount_cents for one in found) <= discountable


@given(LINES, some_coupons())
def test_a_coupon_never_takes_more_than_it_is_worth(
    lines: list[DiscountableLine], coupons: list[AppliedCoupon]
) -> None:
    by_id = {one.id: one for one in coupons}
    found = plan_discounts(lines, coupons, currency="USD")
    assert len({one.applied_coupon_id for one in found}) == len(found)
    for one in found:
        worth = by_id[one.applied_coupon_id].terms.amount_cents
        assert worth is None or one.amount_cents <= worth


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (limits(plans="a"), limits(plans="b"), False),
        (limits(plans="a b"), limits(plans="b c"), True),
        (limits(metrics="m"), limits(metrics="n"), False),
        (limits(metrics="m"), limits(metrics="m n"), True),
        (limits(plans="a"), limits(metrics="m"), True),  # plan a charges for m
        (limits(plans="b"), limits(metrics="m"), False),
        (limits(), limits(plans="a"), False),
        (limits(), limits(), False),
    ],
)
def test_coupons_that_share_a_plan_or_a_metric_overlap(one: Limits, other: Limits, shared: bool) -> None:
    """The examples of https://getlago.com/docs/guide/coupons; either way round."""
    charged = {id_of("a"): ids("m"), id_of("b"): ids("k")}
    assert overlap(one, other, charged) is shared
    assert overlap(other, one, charged) is shared
