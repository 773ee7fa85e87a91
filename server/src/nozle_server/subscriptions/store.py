"""All SQL of subscriptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from nozle_server.core.errors import Conflict
from nozle_server.core.periods import BillingTime, Interval
from nozle_server.infra.batch import later, read_once
from nozle_server.infra.database import Tx
from nozle_server.subscriptions.model import Status, Subscription

_NAMES = (
    "org_id",
    "id",
    "external_id",
    "customer_id",
    "plan_id",
    "plan_version_id",
    "name",
    "status",
    "billing_time",
    "timezone",
    "subscription_at",
    "started_at",
    "initial_started_at",
    "ending_at",
    "terminated_at",
    "canceled_at",
    "current_period_start",
    "current_period_end",
    "billed_through",
    "created_at",
    "previous_subscription_id",
    "trial_ends_at",
    "trial_ended_at",
    "cancel_at_period_end",
    "cancellation_reason",
    "on_termination_credit_note",
    "on_termination_invoice",
)
COLUMNS = ", ".join(_NAMES)


def from_row(row: asyncpg.Record) -> Subscription:
    values = {name: row[name] for name in _NAMES}
    values["status"] = Status(values["status"])
    values["billing_time"] = BillingTime(values["billing_time"])
    return Subscription(**values)


async def insert(tx: Tx, subscription: Subscription) -> None:
    """Conflict `value_already_exist` when its external id is taken, or its place in a chain."""
    places = ", ".join(f"${n}" for n in range(1, len(_NAMES) + 1))
    inserted = await tx.execute(
        f"insert into subscriptions ({COLUMNS}) values ({places}) on conflict do nothing",
        *(getattr(subscription, name) for name in _NAMES),
    )
    if inserted == "INSERT 0 0":
        raise Conflict(
            "a subscription with this external_id exists",
            code="value_already_exist",
            details={"external_id": ["value_already_exist"]},
        )


_MOVING = (
    "plan_id",
    "plan_version_id",
    "name",
    "status",
    "subscription_at",
    "started_at",
    "initial_started_at",
    "ending_at",
    "canceled_at",
    "current_period_start",
    "current_period_end",
    "billed_through",
    "trial_ends_at",
    "trial_ended_at",
    "cancel_at_period_end",
    "cancellation_reason",
    "on_termination_credit_note",
    "on_termination_invoice",
)


async def update(tx: Tx, subscription: Subscription) -> None:
    """Store a subscription that the caller holds as it is now; how it ends is `terminate`'s."""
    changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(_MOVING, start=3))
    await tx.execute(
        f"update subscriptions set {changes} where org_id = $1 and id = $2",
        subscription.org_id,
        subscription.id,
        *(getattr(subscription, name) for name in _MOVING),
    )


async def list_of_external_id(tx: Tx, org_id: UUID, external_id: str) -> list[Subscription]:
    """All that have or had an external id, the newest first."""
    rows = await tx.fetch(
        f"""select {COLUMNS} from subscriptions where org_id = $1 and external_id = $2
            order by started_at desc, created_at desc, id desc""",
        org_id,
        external_id,
    )
    return [from_row(row) for row in rows]


async def list_of_customer(tx: Tx, org_id: UUID, customer_id: UUID) -> list[Subscription]:
    """All subscriptions a customer has or had, newest first."""
    rows = await tx.fetch(
        f"""select {COLUMNS} from subscriptions where org_id = $1 and customer_id = $2
            order by started_at desc, id desc""",
        org_id,
        customer_id,
    )
    return [from_row(row) for row in rows]


@read_once
async def get(tx: Tx, org_id: UUID, subscription_id: UUID) -> Subscription:
    """The subscription that something of ours refers to."""
    row = await tx.fetchrow(
        f"select {COLUMNS} from subscriptions where org_id = $1 and id = $2", org_id, subscription_id
    )
    assert row is not None, "subscriptions are never deleted"
    return from_row(row)


@read_once
async def lock(tx: Tx, org_id: UUID, subscription_id: UUID) -> Subscription | None:
    """The subscription, held until the transaction ends: while it is billed no event can be counted on it."""
    row = await tx.fetchrow(
        f"select {COLUMNS} from subscriptions where org_id = $1 and id = $2 for update",
        org_id,
        subscription_id,
    )
    return from_row(row) if row else None


@dataclass(frozen=True, slots=True)
class SubscriptionFilter:
    """What a list is about; None: whatever."""

    statuses: tuple[str, ...]
    external_customer_id: str | None = None
    plan_code: str | None = None
    overridden: bool | None = None
    currency: str | None = None


async def hold(tx: Tx, org_id: UUID, subscription_id: UUID) -> Subscription:
    """The subscription that something of ours refers to; it cannot be closed until the transaction ends, but be used."""
    row = await tx.fetchrow(
        f"select {COLUMNS} from subscriptions where org_id = $1 and id = $2 for key share",
        org_id,
        subscription_id,
    )
    assert row is not None, "subscriptions are never deleted"
    return from_row(row)


async def list_filtered(
    tx: Tx, org_id: UUID, wanted: SubscriptionFilter, *, limit: int, offset: int
) -> tuple[list[tuple[Subscription, str]], int]:
    """A page of (subscription, external customer id), newest first, and how many there are in all."""
    where = """
        from subscriptions s
        join customers c on c.org_id = s.org_id and c.id = s.customer_id
        join plans p on p.org_id = s.org_id and p.id = s.plan_id
        join plan_versions v on v.org_id = s.org_id and v.id = s.plan_version_id
        where s.org_id = $1 and ($2::text is null or c.external_id = $2) and ($3::text is null or p.code = $3)
          and s.status = any($4) and ($5::boolean is null or $5 = (v.overrides is not null))
          and ($6::text is null or v.currency = $6)
    """
    values = (
        org_id,
        wanted.external_customer_id,
        wanted.plan_code,
        list(wanted.statuses),
        wanted.overridden,
        wanted.currency,
    )
    total = await tx.fetchval(f"select count(*) {where}", *values)
    columns = ", ".join(f"s.{name}" for name in _NAMES)
    rows = await tx.fetch(
        f"""select {columns}, c.external_id as external_customer_id {where}
            order by s.started_at desc, s.id desc limit $7 offset $8""",
        *values,
        limit,
        offset,
    )
    return [(from_row(row), row["external_customer_id"]) for row in rows], total


async def open_period(
    tx: Tx, org_id: UUID, subscription_id: UUID, *, start: datetime, end: datetime, billed_through: datetime
) -> None:
    """Close what lies before `billed_through` and make [start, end) the current period."""
    await later(tx, _open_periods, (org_id, subscription_id, start, end, billed_through))


async def _open_periods(tx: Tx, opened: Sequence[tuple[UUID, UUID, datetime, datetime, datetime]]) -> None:
    await tx.executemany(
        """
        update subscriptions set current_period_start = $3, current_period_end = $4, billed_through = $5
        where org_id = $1 and id = $2
        """,
        opened,
    )


async def get_many(
    tx: Tx, org_id: UUID, subscription_ids: Sequence[UUID], *, lock: bool = False
) -> list[Subscription]:
    """These subscriptions, in order of id; `lock` holds them as `lock` does."""
    rows = await tx.fetch(
        f"""select {COLUMNS} from subscriptions where org_id = $1 and id = any($2) order by id
            {"for update" if lock else ""}""",
        org_id,
        list(subscription_ids),
    )
    return [from_row(row) for row in rows]


async def with_successor(tx: Tx, org_id: UUID, subscription_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these that `find_successor` finds something for."""
    rows = await tx.fetch(
        """select previous_subscription_id as id from subscriptions
           where org_id = $1 and previous_subscription_id = any($2) and status <> 'canceled'""",
        org_id,
        list(subscription_ids),
    )
    return {row["id"] for row in rows}


async def others_of_customers(
    tx: Tx, org_id: UUID, subscription_ids: Sequence[UUID]
) -> dict[UUID, list[UUID]]:
    """By subscription, all others of its customer; those without any are not among the keys."""
    rows = await tx.fetch(
        """select s.id, array_agg(o.id) as others from subscriptions s
           join subscriptions o on o.org_id = s.org_id and o.customer_id = s.customer_id and o.id <> s.id
           where s.org_id = $1 and s.id = any($2) group by s.id""",
        org_id,
        list(subscription_ids),
    )
    return {row["id"]: row["others"] for row in rows}


@read_once
async def ids_billed_with(tx: Tx, org_id: UUID, subscription_id: UUID) -> list[UUID]:
    """The same customer's other subscriptions in the same currency: they share an invoice where they can."""
    rows = await tx.fetch(
        """
        select o.id from subscriptions s
        join plan_versions sv on sv.org_id = s.org_id and sv.id = s.plan_version_id
        join subscriptions o on o.org_id = s.org_id and o.customer_id = s.customer_id and o.id <> s.id
        join plan_versions ov on ov.org_id = o.org_id and ov.id = o.plan_version_id and ov.currency = sv.currency
        where s.org_id = $1 and s.id = $2
        """,
        org_id,
        subscription_id,
    )
    return [row["id"] for row in rows]


async def bill_through(tx: Tx, org_id: UUID, subscription_id: UUID, through: datetime) -> None:
    """Usage before `through` is on a final invoice from now on."""
    await tx.execute(
        "update subscriptions set billed_through = greatest(billed_through, $3) where org_id = $1 and id = $2",
        org_id,
        subscription_id,
        through,
    )


@read_once
async def find_successor(tx: Tx, org_id: UUID, subscription_id: UUID) -> Subscription | None:
    """The subscription that took this one's place, or will: what follows in a chain of plan changes."""
    row = await tx.fetchrow(
        f"""select {COLUMNS} from subscriptions
            where org_id = $1 and previous_subscription_id = $2 and status <> 'canceled'""",
        org_id,
        subscription_id,
    )
    return from_row(row) if row else None


async def activate(tx: Tx, org_id: UUID, subscription_id: UUID) -> None:
    """A pending subscription runs from its start on."""
    await tx.execute(
        "update subscriptions set status = 'active' where org_id = $1 and id = $2 and status = 'pending'",
        org_id,
        subscription_id,
    )


async def terminate(tx: Tx, org_id: UUID, subscription_id: UUID, at: datetime, *, final: bool) -> None:
    """End a subscription; `final` says that its usage is on a final invoice at once, not on a draft first."""
    await tx.execute(
        """
        update subscriptions set status = 'terminated', terminated_at = $3,
            current_period_end = least(current_period_end, greatest($3, current_period_start + interval '1 microsecond')),
            billed_through = case when $4 then $3 else billed_through end
        where org_id = $1 and id = $2
        """,
        org_id,
        subscription_id,
        at,
        final,
    )


async def hold_running(
    tx: Tx, org_id: UUID, external_customer_ids: Sequence[str], external_ids: Sequence[str]
) -> list[tuple[Subscription, str, Interval]]:
    """Running subscriptions of these customers, or with these ids, and those that are to run, with the customer's external
    id and the plan's interval.

    They cannot be closed until the transaction ends: an event that finds its period open is on that period's invoice.
    """
    return await _of_events(tx, org_id, external_customer_ids, external_ids, running=True)


async def list_ended(
    tx: Tx, org_id: UUID, external_customer_ids: Sequence[str], external_ids: Sequence[str]
) -> list[tuple[Subscription, str, Interval]]:
    """As `hold_running`, for those that have ended: they do not change any more, and nothing is held."""
    return await _of_events(tx, org_id, external_customer_ids, external_ids, running=False)


async def _of_events(
    tx: Tx, org_id: UUID, external_customer_ids: Sequence[str], external_ids: Sequence[str], *, running: bool
) -> list[tuple[Subscription, str, Interval]]:
    columns = ", ".join(f"s.{name}" for name in _NAMES)
    # Look-ups by key written out as such: a join is planned badly while the tables' statistics are young.
    query = f"""
        select {columns},
            (select external_id from customers where org_id = s.org_id and id = s.customer_id) as external_customer_id,
            (select case when bill_charges_monthly and interval in ('semiannual', 'yearly') then 'monthly' else interval end
               from plan_versions where org_id = s.org_id and id = s.plan_version_id) as interval
        from subscriptions s
        where s.org_id = $1 and {{condition}} and s.status {"in ('active', 'pending')" if running else "= 'terminated'"}
        order by s.id {"for key share of s" if running else ""}
    """
    of_customers = (
        "s.customer_id = any(array(select id from customers where org_id = $1 and external_id = any($2)))"
    )
    rows = []
    if external_customer_ids:
        rows += await tx.fetch(query.format(condition=of_customers), org_id, list(external_customer_ids))
    if external_ids:
        rows += await tx.fetch(query.format(condition="s.external_id = any($2)"), org_id, list(external_ids))
    return [(from_row(row), row["external_customer_id"], Interval(row["interval"])) for row in rows]


async def chains(tx: Tx, org_id: UUID, subscription_ids: Sequence[UUID]) -> dict[UUID, tuple[UUID, ...]]:
    """The subscriptions that each took over from by a change of plan, the first one first; those without any are not
    among the keys."""
    if not subscription_ids:
        return {}
    rows = await tx.fetch(
        """
        with recursive chain as (
            select s.id as of, s.previous_subscription_id as id, 1 as back from subscriptions s
            where s.org_id = $1 and s.id = any($2) and s.previous_subscription_id is not null
            union all
            select c.of, s.previous_subscription_id, c.back + 1 from chain c
            join subscriptions s on s.org_id = $1 and s.id = c.id
            where s.previous_subscription_id is not null
        )
        select of, array_agg(id order by back desc) as earlier from chain group by of
        """,
        org_id,
        list(subscription_ids),
    )
    return {row["of"]: tuple(row["earlier"]) for row in rows}


async def first_of_chains(tx: Tx, org_id: UUID, subscription_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The first subscription of the chain that each one continues; those that continue none are not among the keys."""
    return {one: earlier[0] for one, earlier in (await chains(tx, org_id, subscription_ids)).items()}
