"""The facts of a `can()` question, read in one round trip."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.costs.store import IDS_OF_METRIC
from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription


@dataclass(frozen=True, slots=True)
class AskedSubscription:
    """A subscription with what its plan and its counters say about the feature asked for.

    `privileges` None: the plan is not entitled to the feature. `counters` are (period start, units); `carried` is the
    quantity of a recurring metric, which has no periods (None: the metric is not recurring).
    """

    subscription: Subscription
    privileges: dict[str, Any] | None
    counters: tuple[tuple[datetime, Decimal], ...]
    carried: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the code asked for turned out to be, and the customer's subscriptions."""

    feature_id: UUID | None
    metric_id: UUID | None
    rounding: tuple[str | None, int | None]
    aggregation: str | None
    cost_model_ids: tuple[UUID, ...]
    test_now: datetime | None
    margin_enforcement: str
    min_margin_percent: Decimal | None
    subscriptions: tuple[AskedSubscription, ...]


_SUBSCRIPTION = ", ".join(f"s.{name}" for name in subscriptions_store.COLUMNS.split(", "))
# A feature's code comes before a metric's (contract Decision 6). Counters from the stored current period on: the
# period that runs by the clock may be a later one, when its billing run is still to come.
_FACTS = f"""
with feature as (
    select id, metric_id from features where org_id = $1 and code = $3 and deleted_at is null
), asked as (
    select (select id from feature) as feature_id,
        case when exists (select 1 from feature) then (select metric_id from feature)
             else (select id from billable_metrics where org_id = $1 and code = $3 and deleted_at is null) end as metric_id
)
select asked.feature_id, asked.metric_id as asked_metric_id, {IDS_OF_METRIC.format(code="m.code")} as cost_model_ids,
    m.aggregation_type, o.test_now, o.margin_enforcement, o.min_margin_percent, {_SUBSCRIPTION},
    case when own.removed then null else coalesce(e.privileges || own.privileges, own.privileges, e.privileges) end
        as privileges,
    array(select u.period_start from usage_counters u
          where u.org_id = s.org_id and u.subscription_id = s.id and u.metric_id = asked.metric_id
            and u.period_start >= s.current_period_start order by u.period_start) as counter_starts,
    array(select u.units from usage_counters u
          where u.org_id = s.org_id and u.subscription_id = s.id and u.metric_id = asked.metric_id
            and u.period_start >= s.current_period_start order by u.period_start) as counter_units,
    m.rounding_function, m.rounding_precision,
    -- One counter for all time, kept under the first of the subscriptions that follow each other.
    case when m.recurring then coalesce((select u.units from usage_counters u
        where u.org_id = s.org_id and u.metric_id = m.id and u.period_start = to_timestamp(0) and u.subscription_id = (
            with recursive chain as (
                select s.id, s.previous_subscription_id as earlier
                union all
                select p.id, p.previous_subscription_id from chain c
                join subscriptions p on p.org_id = $1 and p.id = c.earlier
            )
            select id from chain where earlier is null)), 0) end as carried_units
from asked
join organizations o on o.id = $1
left join billable_metrics m on m.org_id = $1 and m.id = asked.metric_id
left join customers c on c.org_id = $1 and c.external_id = $2 and c.deleted_at is null
left join subscriptions s on s.org_id = $1 and s.customer_id = c.id and ($4::text is null or s.external_id = $4)
left join plan_entitlements e on e.org_id = $1 and e.plan_id = s.plan_id and e.feature_id = asked.feature_id
left join subscription_entitlements own on own.org_id = $1 and own.subscription_id = s.id
    and own.feature_id = asked.feature_id
order by s.started_at desc, s.id desc
"""


async def read(tx: Tx, org_id: UUID, *, customer: str, code: str, subscription: str | None) -> Asked:
    """Everything stored that bears on the question."""
    rows = await tx.fetch(_FACTS, org_id, customer, code, subscription)
    first = rows[0]
    return Asked(
        feature_id=first["feature_id"],
        metric_id=first["asked_metric_id"],
        rounding=(first["rounding_function"], first["rounding_precision"]),
        aggregation=first["aggregation_type"],
        cost_model_ids=tuple(first["cost_model_ids"]),
        test_now=first["test_now"],
        margin_enforcement=first["margin_enforcement"],
        min_margin_percent=first["min_margin_percent"],
        subscriptions=tuple(_subscription(row) for row in rows if row["id"] is not None),
    )


def _subscription(row: asyncpg.Record) -> AskedSubscription:
    return AskedSubscription(
        subscriptions_store.from_row(row),
        row["privileges"],
        tuple(zip(row["counter_starts"], row["counter_units"], strict=True)),
        row["carried_units"],
    )
