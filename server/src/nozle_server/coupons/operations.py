"""Give coupons to customers, take them away, and count what invoices take of them.

Whoever gives a coupon or bills a customer holds the customer's row first, so that both happen one after the other.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.core.errors import RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_id
from nozle_server.coupons import applied_store, store
from nozle_server.coupons.apply import Discount
from nozle_server.coupons.drafts import AppliedCouponDraft
from nozle_server.coupons.limits import overlap
from nozle_server.coupons.model import AppliedCoupon, Coupon, CouponType, Frequency, Limits, Terms
from nozle_server.coupons.queries import unknown_applied_coupon, unknown_coupon
from nozle_server.coupons.terms import check_terms
from nozle_server.customers.model import Customer, CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.customers.queries import lock_customer
from nozle_server.infra.database import Tx


async def apply_coupon(tx: Tx, *, org_id: UUID, draft: AppliedCouponDraft, now: datetime) -> AppliedCoupon:
    """Give the customer the coupon, on the coupon's terms where the draft says nothing else.

    NotFound for an unknown customer, or a coupon that is unknown or has expired. RuleBroken `plan_overlapping` when the
    customer has another for the same plans or metrics; for `coupon` `coupon_is_not_reusable` when it is to be had once
    and was had; for `currency` `currencies_does_not_match` when the customer pays in another one.
    """
    customer = await lock_customer(tx, org_id, parse_id(draft.external_customer_id, "external_customer_id"))
    coupon = await store.hold_coupon(tx, org_id, parse_id(draft.coupon_code, "coupon_code"))
    if coupon is None or coupon.terminated_at(now):
        raise unknown_coupon()
    if await _overlaps(tx, coupon, customer):
        raise RuleBroken(
            "the customer has a coupon for the same plans or billable metrics", code="plan_overlapping"
        )
    if not coupon.reusable and await applied_store.had_coupon(tx, org_id, customer.id, coupon.id):
        raise RuleBroken(
            "the customer has had this coupon",
            code="coupon_is_not_reusable",
            details={"coupon": ["coupon_is_not_reusable"]},
        )
    terms = _agreed_terms(coupon, draft)
    if coupon.coupon_type is CouponType.FIXED_AMOUNT:
        await _agree_on_currency(tx, customer, terms, now)
    applied = AppliedCoupon(
        org_id=org_id,
        id=new_id(),
        coupon=coupon,
        customer_id=customer.id,
        external_customer_id=customer.external_id,
        terms=terms,
        frequency_duration_remaining=terms.frequency_duration,
        used_cents=0,
        status="active",
        terminated_at=None,
        created_at=now,
    )
    await applied_store.insert_applied(tx, applied)
    return applied


async def remove_applied_coupon(
    tx: Tx, *, org_id: UUID, external_customer_id: str, applied_coupon_id: UUID, now: datetime
) -> AppliedCoupon:
    """Take a coupon away from a customer; one that has ended stays as it is. NotFound when the customer has no such."""
    customer = await lock_customer(tx, org_id, external_customer_id)
    await applied_store.end_applied(
        tx, org_id, customer_id=customer.id, applied_coupon_id=applied_coupon_id, now=now
    )
    applied = await applied_store.find_of_customer(tx, org_id, customer.id, applied_coupon_id)
    if applied is None:
        raise unknown_applied_coupon()
    return applied


async def applicable_coupons(
    tx: Tx, org_id: UUID, customer_id: UUID, currency: str, now: datetime
) -> tuple[AppliedCoupon, ...]:
    """The coupons that an invoice of the customer at `now` may use, held until the transaction ends.

    A coupon given after `now` is for later invoices, however late this one is made. A coupon that expired since it was
    given still counts (https://getlago.com/docs/guide/coupons).
    """
    found = await applied_store.active_of_customer(tx, org_id, customer_id, until=now, lock=True)
    return tuple(one for one in found if one.terms.currency in (None, currency))


async def record_uses(
    tx: Tx, org_id: UUID, invoice_id: UUID, discounts: Sequence[Discount], now: datetime
) -> None:
    """Count what a finalized invoice took of its customer's coupons, found by `applicable_coupons` in this transaction,
    and end those that are used up. The invoice's row is there already."""
    for discount in discounts:
        await applied_store.record_use(tx, org_id, new_id(), invoice_id, discount, now)


async def give_back_uses(tx: Tx, org_id: UUID, invoice_id: UUID) -> None:
    """Undo what an invoice took, because it is voided: the amount and the period come back, and so does a coupon that
    had been used up, unless it was deleted since. Doing it twice changes nothing."""
    await applied_store.give_back(tx, org_id, invoice_id)


def _agreed_terms(coupon: Coupon, draft: AppliedCouponDraft) -> Terms:
    own = coupon.terms
    frequency = Frequency(draft.frequency) if draft.frequency else own.frequency
    terms = Terms(
        amount_cents=own.amount_cents if draft.amount_cents is None else draft.amount_cents,
        currency=draft.amount_currency or own.currency,
        percentage_rate=own.percentage_rate if draft.percentage_rate is None else draft.percentage_rate,
        frequency=frequency,
        frequency_duration=own.frequency_duration
        if draft.frequency_duration is None
        else draft.frequency_duration,
    )
    return check_terms(coupon.coupon_type, terms, minimum_cents=0)


async def _agree_on_currency(tx: Tx, customer: Customer, terms: Terms, now: datetime) -> None:
    """A customer without a currency gets the coupon's."""
    if customer.currency is None:
        changes = CustomerChanges(customer.external_id, {"currency": terms.currency})
        await upsert_customer(tx, org_id=customer.org_id, changes=changes, now=now)
    elif customer.currency != terms.currency:
        raise RuleBroken(
            "the customer pays in another currency",
            code="currencies_does_not_match",
            details={"currency": ["currencies_does_not_match"]},
        )


async def _overlaps(tx: Tx, coupon: Coupon, customer: Customer) -> bool:
    if not coupon.limits:
        return False
    held = await applied_store.active_of_customer(tx, coupon.org_id, customer.id)
    others = [one.coupon.limits for one in held if one.coupon.limits]
    if not others:
        return False
    charged = await _metrics_charged(tx, coupon.org_id, [coupon.limits, *others])
    return any(overlap(coupon.limits, other, charged) for other in others)


async def _metrics_charged(tx: Tx, org_id: UUID, limits: Sequence[Limits]) -> dict[UUID, frozenset[UUID]]:
    codes = dict.fromkeys(code for one in limits for code in one.plan_codes)
    plans = [plan for code in codes if (plan := await plan_store.find_plan(tx, org_id, code))]
    return {plan.id: frozenset(charge.metric_id for charge in plan.current.charges) for plan in plans}
