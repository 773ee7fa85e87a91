"""Whether two coupons would come off the same thing, which one customer may not have:
https://getlago.com/docs/guide/coupons, "Apply a coupon"."""

from collections.abc import Mapping
from uuid import UUID

from nozle_server.coupons.model import Limits


def overlap(one: Limits, other: Limits, charged: Mapping[UUID, frozenset[UUID]]) -> bool:
    """Whether two limited coupons share a plan or a metric, or one is limited to a plan that charges for a metric of the
    other. A coupon without limits overlaps with none. `charged` are the metrics that plans charge for, by plan."""
    return bool(
        one.plan_ids & other.plan_ids
        or one.metric_ids & other.metric_ids
        or _charged(one, charged) & other.metric_ids
        or _charged(other, charged) & one.metric_ids
    )


def _charged(limits: Limits, charged: Mapping[UUID, frozenset[UUID]]) -> frozenset[UUID]:
    return frozenset().union(*(charged.get(plan_id, frozenset()) for plan_id in limits.plan_ids))
