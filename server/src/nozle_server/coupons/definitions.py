"""Define, change and remove coupons."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from nozle_server.catalog import metric_store, plan_store
from nozle_server.core.errors import Conflict, InvalidInput, NotFound, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_id, parse_text
from nozle_server.coupons import store
from nozle_server.coupons.drafts import AppliesTo, CouponChanges, CouponDraft
from nozle_server.coupons.model import Coupon, CouponType, Frequency, Limits, Terms
from nozle_server.coupons.queries import unknown_coupon
from nozle_server.coupons.terms import check_terms
from nozle_server.infra.database import Tx
from nozle_server.metering.timestamps import parse_instant

MAX_TARGETS = 100


async def create_coupon(tx: Tx, *, org_id: UUID, draft: CouponDraft, now: datetime) -> Coupon:
    """A new coupon; Conflict `value_already_exist` when its code is taken, NotFound `plans_not_found` or
    `billable_metrics_not_found` for what it is limited to."""
    coupon = _coupon(draft, org_id=org_id, coupon_id=new_id(), created_at=now, now=now)
    if draft.applies_to is not None:
        coupon = replace(coupon, limits=await _limits(tx, org_id, draft.applies_to))
    if not await store.insert_coupon(tx, coupon):
        raise _code_is_taken()
    return coupon


async def update_coupon(tx: Tx, *, org_id: UUID, code: str, changes: CouponChanges, now: datetime) -> Coupon:
    """Change what is given. Once a customer has got the coupon, only its name, description and expiration change
    (https://getlago.com/docs/guide/coupons, "Edit, terminate and delete coupons"); who has it keeps it as it was."""
    previous = await store.lock_coupon(tx, org_id, parse_id(code, "code"))
    if previous is None:
        raise unknown_coupon()
    draft = _merge(previous, changes)
    coupon = _coupon(draft, org_id=org_id, coupon_id=previous.id, created_at=previous.created_at, now=now)
    named = draft.applies_to is not None and (
        draft.applies_to.plan_codes is not None or draft.applies_to.billable_metric_codes is not None
    )
    limits = await _limits(tx, org_id, draft.applies_to) if named and draft.applies_to else previous.limits
    coupon = replace(coupon, limits=limits)
    if await store.is_applied(tx, org_id, coupon.id):
        _refuse_changes(previous, coupon)
    if coupon.code != previous.code and await store.code_is_taken(tx, coupon):
        raise _code_is_taken()
    await store.update_coupon(tx, coupon)
    return coupon


async def delete_coupon(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> Coupon:
    """Remove a coupon, also from the customers who have it; what invoices took of it stays."""
    coupon = await store.lock_coupon(tx, org_id, parse_id(code, "code"))
    if coupon is None:
        raise unknown_coupon()
    await store.delete_coupon(tx, org_id, coupon.id, now)
    return coupon


def _coupon(
    draft: CouponDraft, *, org_id: UUID, coupon_id: UUID, created_at: datetime, now: datetime
) -> Coupon:
    """The coupon that a draft describes, its limits aside."""
    kind = CouponType(draft.coupon_type)
    terms = Terms(
        amount_cents=draft.amount_cents,
        currency=draft.amount_currency,
        percentage_rate=draft.percentage_rate,
        frequency=Frequency(draft.frequency),
        frequency_duration=draft.frequency_duration,
    )
    return Coupon(
        org_id=org_id,
        id=coupon_id,
        code=parse_id(draft.code, "code"),
        name=parse_id(draft.name, "name"),
        description=parse_text(draft.description, "description"),
        coupon_type=kind,
        terms=check_terms(kind, terms, minimum_cents=1),
        limits=Limits(),
        expiration_at=_expiration(draft, now),
        reusable=draft.reusable,
        created_at=created_at,
        updated_at=now,
    )


def _expiration(draft: CouponDraft, now: datetime) -> datetime | None:
    if draft.expiration == "no_expiration":
        return None
    if draft.expiration_at in (None, ""):
        raise InvalidInput("expiration_at is required", details={"expiration_at": ["value_is_mandatory"]})
    if isinstance(draft.expiration_at, datetime):
        return draft.expiration_at  # as it is stored: a coupon that has expired may still get another name
    try:
        expiration_at = parse_instant(draft.expiration_at, "expiration_at")
    except InvalidInput:
        raise _bad_expiration("is not an instant of RFC 3339") from None
    if expiration_at.date() < now.astimezone(UTC).date():
        raise _bad_expiration("lies in the past")
    return expiration_at


def _bad_expiration(what: str) -> InvalidInput:
    return InvalidInput(f"expiration_at {what}", details={"expiration_at": ["invalid_date"]})


async def _limits(tx: Tx, org_id: UUID, applies_to: AppliesTo) -> Limits:
    plan_codes = _codes(applies_to.plan_codes, "plan_codes")
    metric_codes = _codes(applies_to.billable_metric_codes, "billable_metric_codes")
    plans = [plan for code in plan_codes if (plan := await plan_store.find_plan(tx, org_id, code))]
    if len(plans) < len(plan_codes):
        raise NotFound("plans not found", code="plans_not_found")
    metrics = (await metric_store.find_metrics(tx, org_id, metric_codes)) if metric_codes else {}
    if len(metrics) < len(metric_codes):
        raise NotFound("billable metrics not found", code="billable_metrics_not_found")
    if plans and metrics:
        raise RuleBroken(
            "a coupon is limited to plans or to billable metrics",
            code="only_one_limitation_type_per_coupon_allowed",
        )
    return Limits(
        limited_plans=bool(plans),
        limited_billable_metrics=bool(metrics),
        plan_ids=frozenset(plan.id for plan in plans),
        plan_codes=tuple(sorted(plan.code for plan in plans)),
        metric_ids=frozenset(metric.id for metric in metrics.values()),
        metric_codes=tuple(sorted(metrics)),
    )


def _codes(codes: Sequence[str] | None, field: str) -> list[str]:
    if len(codes or ()) > MAX_TARGETS:
        raise InvalidInput(f"{field} has more than {MAX_TARGETS} codes", details={field: ["too_many"]})
    return list(dict.fromkeys(parse_id(code, field) for code in codes or ()))


def _merge(coupon: Coupon, changes: CouponChanges) -> CouponDraft:
    """The coupon as a draft, with what the changes name in its place."""
    current: dict[str, Any] = {
        "code": coupon.code,
        "name": coupon.name,
        "coupon_type": coupon.coupon_type.value,
        "frequency": coupon.terms.frequency.value,
        "expiration": "time_limit" if coupon.expiration_at else "no_expiration",
        "description": coupon.description,
        "amount_cents": coupon.terms.amount_cents,
        "amount_currency": coupon.terms.currency,
        "percentage_rate": coupon.terms.percentage_rate,
        "frequency_duration": coupon.terms.frequency_duration,
        "expiration_at": coupon.expiration_at,
        "reusable": coupon.reusable,
        "applies_to": None,
    }
    given = {name: value for name, value in msgspec.structs.asdict(changes).items() if value is not UNSET}
    return CouponDraft(**{**current, **given})


def _refuse_changes(previous: Coupon, coupon: Coupon) -> None:
    fixed: dict[str, tuple[object, object]] = {
        "code": (previous.code, coupon.code),
        "coupon_type": (previous.coupon_type, coupon.coupon_type),
        "amount_cents": (previous.terms.amount_cents, coupon.terms.amount_cents),
        "amount_currency": (previous.terms.currency, coupon.terms.currency),
        "percentage_rate": (previous.terms.percentage_rate, coupon.terms.percentage_rate),
        "frequency": (previous.terms.frequency, coupon.terms.frequency),
        "frequency_duration": (previous.terms.frequency_duration, coupon.terms.frequency_duration),
        "reusable": (previous.reusable, coupon.reusable),
        "applies_to": (
            (previous.limits.plan_codes, previous.limits.metric_codes),
            (coupon.limits.plan_codes, coupon.limits.metric_codes),
        ),
    }
    changed = {name: ["value_is_fixed"] for name, (before, after) in fixed.items() if before != after}
    if changed:
        raise RuleBroken("a customer has this coupon already", code="coupon_is_applied", details=changed)


def _code_is_taken() -> Conflict:
    return Conflict(
        "a coupon with this code exists",
        code="value_already_exist",
        details={"code": ["value_already_exist"]},
    )
