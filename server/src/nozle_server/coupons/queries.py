"""Use cases that only look at coupons."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.core.text import parse_id
from nozle_server.coupons import applied_store, store
from nozle_server.coupons.model import AppliedCoupon, Coupon, CouponUse
from nozle_server.infra.database import Tx


async def get_coupon(tx: Tx, org_id: UUID, code: str) -> Coupon:
    """The coupon, by code; NotFound `coupon_not_found`."""
    coupon = await store.find_coupon(tx, org_id, parse_id(code, "code"))
    if coupon is None:
        raise unknown_coupon()
    return coupon


async def uses_of(
    tx: Tx, org_id: UUID, applied: Sequence[AppliedCoupon]
) -> Mapping[UUID, Sequence[CouponUse]]:
    """What invoices took of each of these, oldest first, by the applied coupon's id."""
    uses: dict[UUID, list[CouponUse]] = {one.id: [] for one in applied}
    if applied:
        for use in await applied_store.uses_of(tx, org_id, list(uses)):
            uses[use.applied_coupon_id].append(use)
    return uses


def unknown_coupon() -> NotFound:
    return NotFound("coupon not found", code="coupon_not_found")


def unknown_applied_coupon() -> NotFound:
    return NotFound("applied coupon not found", code="applied_coupon_not_found")
