"""SQL of lines as Core shows them by themselves (fees): lists, and what they are about."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from nozle_server.infra.database import Tx
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.invoicing.store import LINE_COLUMNS, PAYMENT_OF_LINE, line_from_row

_LINE = ", ".join(f"l.{name}" for name in LINE_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeFilter:
    """Which lines a list shows; None does not restrict. Instants are both included."""

    kind: str | None = None
    payment_status: str | None = None
    external_subscription_id: str | None = None
    external_customer_id: str | None = None
    metric_code: str | None = None
    currency: str | None = None
    event_transaction_id: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    succeeded_from: datetime | None = None
    succeeded_to: datetime | None = None
    failed_from: datetime | None = None
    failed_to: datetime | None = None
    refunded_from: datetime | None = None
    refunded_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class LineSubject:
    """What a line is about, in the merchant's words; None where it has no such thing."""

    external_customer_id: str
    external_subscription_id: str | None
    plan_code: str | None
    plan_name: str | None
    metric_name: str | None
    metric_description: str | None
    add_on_code: str | None
    add_on_name: str | None
    add_on_description: str | None
    true_up_line_id: UUID | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    refunded_at: datetime | None


async def subjects(tx: Tx, org_id: UUID, lines: Sequence[InvoiceLine]) -> dict[UUID, LineSubject]:
    """What these lines are about, by line; also of lines that are not stored."""
    rows = await tx.fetch(
        """
        select x.id, c.external_id as external_customer_id, s.external_id as external_subscription_id,
            p.code as plan_code, p.name as plan_name, m.name as metric_name, m.description as metric_description,
            a.code as add_on_code, a.name as add_on_name, a.description as add_on_description,
            (select t.id from invoice_lines t where t.org_id = $1 and t.invoice_id = l.invoice_id
                and t.true_up_of = l.id limit 1) as true_up_line_id,
            l.succeeded_at, l.failed_at, l.refunded_at
        from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[])
            as x (id, customer_id, subscription_id, plan_id, metric_id, add_on_id)
        join customers c on c.org_id = $1 and c.id = x.customer_id
        left join invoice_lines l on l.org_id = $1 and l.id = x.id
        left join subscriptions s on s.org_id = $1 and s.id = x.subscription_id
        left join plans p on p.org_id = $1 and p.id = x.plan_id
        left join billable_metrics m on m.org_id = $1 and m.id = x.metric_id
        left join add_ons a on a.org_id = $1 and a.id = x.add_on_id
        """,
        org_id,
        *(
            [getattr(line, name) for line in lines]
            for name in ("id", "customer_id", "subscription_id", "plan_id", "metric_id", "add_on_id")
        ),
    )
    return {row["id"]: LineSubject(*list(row)[1:]) for row in rows}


async def list_fees(
    tx: Tx, org_id: UUID, wanted: FeeFilter, *, limit: int, offset: int
) -> tuple[list[InvoiceLine], int]:
    """A page of lines, newest first, and how many there are."""
    where, values = _conditions(org_id, wanted)
    source = """invoice_lines l join customers c on c.org_id = l.org_id and c.id = l.customer_id
        left join subscriptions s on s.org_id = l.org_id and s.id = l.subscription_id
        left join invoices i on i.org_id = l.org_id and i.id = l.invoice_id"""
    total = await tx.fetchval(f"select count(*) from {source} where {where}", *values)
    rows = await tx.fetch(
        f"""select {_LINE} from {source} where {where}
            order by l.created_at desc, l.invoice_id desc nulls first, l.position, l.id desc
            limit ${len(values) + 1} offset ${len(values) + 2}""",
        *values,
        limit,
        offset,
    )
    return [line_from_row(row) for row in rows], total


def _conditions(org_id: UUID, wanted: FeeFilter) -> tuple[str, list[Any]]:
    values: list[Any] = [org_id]
    conditions = ["l.org_id = $1", "i.status is distinct from 'closed'"]
    for condition, value in (
        ("l.kind =", wanted.kind),
        ("l.payment_status =", wanted.payment_status),
        ("s.external_id =", wanted.external_subscription_id),
        ("c.external_id =", wanted.external_customer_id),
        ("l.metric_code =", wanted.metric_code),
        ("l.currency =", wanted.currency),
        ("l.event_transaction_id =", wanted.event_transaction_id),
        ("l.created_at >=", wanted.created_from),
        ("l.created_at <=", wanted.created_to),
        ("l.succeeded_at >=", wanted.succeeded_from),
        ("l.succeeded_at <=", wanted.succeeded_to),
        ("l.failed_at >=", wanted.failed_from),
        ("l.failed_at <=", wanted.failed_to),
        ("l.refunded_at >=", wanted.refunded_from),
        ("l.refunded_at <=", wanted.refunded_to),
    ):
        if value is not None:
            values.append(value)
            conditions.append(f"{condition} ${len(values)}")
    return " and ".join(conditions), values


async def lock_line(tx: Tx, org_id: UUID, line_id: UUID) -> InvoiceLine | None:
    """The line, held until the transaction ends."""
    row = await tx.fetchrow(
        f"select {_LINE} from invoice_lines l where l.org_id = $1 and l.id = $2 for update", org_id, line_id
    )
    return line_from_row(row) if row else None


async def set_payment_of_line(tx: Tx, line: InvoiceLine, status: str, now: datetime) -> None:
    await tx.execute(
        f"update invoice_lines set {PAYMENT_OF_LINE} where org_id = $1 and id = $2",
        line.org_id,
        line.id,
        status,
        now,
    )


async def delete_line(tx: Tx, line: InvoiceLine) -> None:
    """Take away a line that is on no invoice; the database refuses any other."""
    await tx.execute("delete from invoice_lines where org_id = $1 and id = $2", line.org_id, line.id)
