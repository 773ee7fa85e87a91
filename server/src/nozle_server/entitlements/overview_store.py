"""What the subscriptions of a customer bring: features of their plans and of their own, and metrics their plans price."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.entitlements.model import FeatureType
from nozle_server.entitlements.overview import Holder, Right
from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription

_SUBSCRIPTION = ", ".join(f"s.{name}" for name in subscriptions_store.COLUMNS.split(", "))
_HOLDERS = f"""
    select {_SUBSCRIPTION}, p.code as plan_code
    from customers c
    join subscriptions s on s.org_id = c.org_id and s.customer_id = c.id and s.status in ('active', 'pending')
    join plans p on p.org_id = s.org_id and p.id = s.plan_id
    where c.org_id = $1 and c.external_id = $2 and c.deleted_at is null and ($3::text is null or s.external_id = $3)
    order by s.started_at desc, s.id desc
"""
_FEATURES = """
    select s.id as subscription_id, f.code, f.name, f.metric_id is not null as metered,
        coalesce(e.privileges || own.privileges, own.privileges, e.privileges) as privileges
    from subscriptions s
    join features f on f.org_id = s.org_id and f.deleted_at is null
    left join plan_entitlements e on e.org_id = s.org_id and e.plan_id = s.plan_id and e.feature_id = f.id
    left join subscription_entitlements own
        on own.org_id = s.org_id and own.subscription_id = s.id and own.feature_id = f.id
    where s.org_id = $1 and s.id = any($2) and (e.feature_id is not null or own.feature_id is not null)
        and own.removed is not true
"""
# A feature's code comes before a metric's (contract Decision 6).
_METRICS = """
    select m.id, m.code, m.name from billable_metrics m
    where m.org_id = $1 and m.id = any($2) and m.deleted_at is null and not exists (
        select from features f where f.org_id = m.org_id and f.code = m.code and f.deleted_at is null)
"""


async def read_holders(
    tx: Tx, org_id: UUID, customer: str, subscription: str | None = None
) -> tuple[Holder, ...]:
    """The customer's subscriptions that run or will, the latest first, as `can()` looks at them."""
    rows = await tx.fetch(_HOLDERS, org_id, customer, subscription)
    if not rows:
        return ()
    subscriptions = [subscriptions_store.from_row(row) for row in rows]
    versions = await plan_store.get_plan_versions(
        tx, org_id, list({one.plan_version_id for one in subscriptions})
    )
    metrics = {
        one.id: {charge.metric_id for charge in versions[one.plan_version_id].charges}
        for one in subscriptions
    }
    rights = await _rights(tx, org_id, subscriptions, metrics)
    return tuple(
        Holder(
            one,
            row["plan_code"],
            versions[one.plan_version_id].usage_interval,
            {right.code: right for right in rights[one.id]},
        )
        for one, row in zip(subscriptions, rows, strict=True)
    )


async def _rights(
    tx: Tx, org_id: UUID, subscriptions: Sequence[Subscription], metrics: dict[UUID, set[UUID]]
) -> dict[UUID, list[Right]]:
    rights: dict[UUID, list[Right]] = {one.id: [] for one in subscriptions}
    for row in await tx.fetch(_FEATURES, org_id, list(rights)):
        kind = FeatureType.METERED if row["metered"] else FeatureType.BOOLEAN
        rights[row["subscription_id"]].append(Right(row["code"], row["name"], kind, row["privileges"]))
    wanted: Iterable[UUID] = set().union(*metrics.values())
    for row in await tx.fetch(_METRICS, org_id, list(wanted)):
        right = Right(row["code"], row["name"], FeatureType.METRIC, {})
        for subscription_id, ids in metrics.items():
            if row["id"] in ids:
                rights[subscription_id].append(right)
    return rights
