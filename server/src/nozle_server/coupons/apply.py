"""What coupons take off an invoice: https://getlago.com/docs/guide/coupons, "Application scope".

Coupons come off before taxes. Those limited to billable metrics go first, then those limited to plans, then the others,
each in the order in which the customer got them. What one took is gone for the next: percentages apply to the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.core.rounding import EXACT, divide, to_cents
from nozle_server.coupons.model import AppliedCoupon, CouponType, Frequency

NEVER_DISCOUNTED = ("add_on", "credit")
"""Kinds of lines that coupons leave alone: add-ons and bought credits are no part of a subscription."""

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class DiscountableLine:
    """A line of an invoice, after what progressive billing has invoiced of it already; in minor units."""

    kind: str
    plan_id: UUID | None
    metric_id: UUID | None
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Discount:
    """What one applied coupon takes off: in all, settled, and of each line, exactly. The shares sum to the amount."""

    applied_coupon_id: UUID
    amount_cents: int
    per_line: tuple[Decimal, ...]


def plan_discounts(
    lines: Sequence[DiscountableLine], applied: Sequence[AppliedCoupon], *, currency: str
) -> tuple[Discount, ...]:
    """The discounts of an invoice in `currency`, in the order in which they come off; coupons that take nothing are not
    among them and stay as they are.

    Neither a line nor the invoice falls below 0. A coupon of a fixed amount comes off invoices in its currency only.
    """
    room = [_ZERO if one.kind in NEVER_DISCOUNTED else Decimal(max(one.amount_cents, 0)) for one in lines]
    left = sum(one.amount_cents for one in lines if one.kind not in NEVER_DISCOUNTED)
    discounts = []
    for one in sorted(applied, key=_order):
        if one.coupon.coupon_type is CouponType.FIXED_AMOUNT and one.terms.currency != currency:
            continue
        theirs = [room[i] if _covers(one, line) else _ZERO for i, line in enumerate(lines)]
        amount = _amount(one, theirs, left)
        if amount <= 0:
            continue
        shares = _spread(amount, theirs)
        with localcontext(EXACT):
            room = [rest - share for rest, share in zip(room, shares, strict=True)]
        left -= amount
        discounts.append(Discount(one.id, amount, shares))
    return tuple(discounts)


def _order(one: AppliedCoupon) -> tuple[bool, bool, datetime, UUID]:
    limits = one.coupon.limits
    return not limits.limited_billable_metrics, not limits.limited_plans, one.created_at, one.id


def _covers(one: AppliedCoupon, line: DiscountableLine) -> bool:
    limits = one.coupon.limits
    if limits.limited_billable_metrics:
        return line.metric_id in limits.metric_ids
    if limits.limited_plans:
        return line.plan_id in limits.plan_ids
    return True


def _amount(one: AppliedCoupon, room: Sequence[Decimal], left: int) -> int:
    """What the coupon takes of lines with this much room, on an invoice with `left` to pay before taxes."""
    terms = one.terms
    with localcontext(EXACT):
        base = min(sum(room, _ZERO), Decimal(left))
        # Shares of an earlier coupon may have left a fraction of a cent, which nobody can be given.
        most = int(base)
        if one.coupon.coupon_type is CouponType.PERCENTAGE:
            assert terms.percentage_rate is not None, "a percentage has a rate"
            return min(to_cents(base * terms.percentage_rate * Decimal("0.01")), most)
    fixed = one.remaining_cents if terms.frequency is Frequency.ONCE else terms.amount_cents
    assert fixed is not None, "a fixed amount has one"
    return min(fixed, most)


def _spread(amount: int, room: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Exact shares of `amount`, in proportion to the room and never more than it; they sum to the amount."""
    with localcontext(EXACT):
        whole = sum(room, _ZERO)
        shares = [min(divide(amount * one, whole), one) for one in room]
        # What the quotients miss of the whole, or have too much, some 1e-24: to the first lines that have the room.
        missing = amount - sum(shares, _ZERO)
        for i, one in enumerate(room):
            more = min(missing, one - shares[i]) if missing > 0 else max(missing, -shares[i])
            shares[i] += more
            missing -= more
        assert not missing, "there is room for the whole amount"
        return tuple(shares)
