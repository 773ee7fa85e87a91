"""The end of a month: all subscriptions due at once are closed and invoiced by the worker, from the events behind them.

Beside it, what PostgreSQL alone needs to read the same events, and to write the same rows.
"""

import asyncio
import time
from dataclasses import dataclass, field

import asyncpg

from harness.bench import Bench, main
from harness.measurement import BenchError, Measurement
from harness.month import (
    EVENTS_EACH,
    PRICED,
    TAX_PERCENT,
    USAGES,
    Month,
    let_it_fall_due,
    make_month,
    unlike_ingest,
)
from harness.report import Check, Figure, Reading, Yardstick
from harness.server import memory_mib

LOOK_EVERY_S = 0.2
STUCK_AFTER_S = 60.0
_WRITTEN = ("invoices", "invoice_subscriptions", "invoice_lines")

# One statement over every event of the month: what rating asks for, grouped as rating groups it.
_READ = """
select count(*) as groups, sum(units) as units, sum(events)::bigint as events from (
    select subscription_id, metric_id, case when properties ->> 'region' in ('eu', 'us') then properties ->> 'region' end,
        sum(quantity) as units, count(*) as events
    from events where org_id = $1 and occurred_at >= $2 and occurred_at < $3 and status = 'counted' group by 1, 2, 3) usage
"""


@dataclass(slots=True)
class Run:
    """How the run went: seconds from falling due until all periods were closed, and until all was invoiced."""

    closed_after_s: float = 0.0
    done_after_s: float = 0.0
    memory_mib: list[tuple[int, float]] = field(default_factory=list)
    """(invoices made, resident memory of the server), look by look."""

    def memory_at(self, share: float) -> float:
        """Resident memory when `share` of the invoices had been made."""
        made = self.memory_mib[-1][0]
        return next(mib for invoices, mib in self.memory_mib if invoices >= share * made)


async def measure(bench: Bench) -> None:
    """Let a month of all subscriptions fall due, and watch."""
    organization = await bench.server.open_organization("bench")
    month = await make_month(bench.server, bench.database, organization, bench.subscriptions)
    unlike = await unlike_ingest(bench.database, month)
    count = month.subscriptions
    bench.report.begin(
        f"the end of a month: {count:,} subscriptions due at once, {month.events:,} events, invoices/s"
    )
    read_s = await _read(bench.database, month)
    run = await _watch(bench, month)
    written_s = await _write(bench.database, month)
    whole = Measurement(count, run.done_after_s)
    invoicing = Measurement(count, run.done_after_s - run.closed_after_s)
    closing = Measurement(count, run.closed_after_s)
    read = Yardstick("PostgreSQL reads the rows", Measurement(count, read_s))
    written = Yardstick("PostgreSQL writes the rows", Measurement(count, written_s))
    for name, measured, yardstick in (
        ("invoices", whole, read),
        ("invoices", whole, written),
        ("invoices_closing", closing, written),
        ("invoices_invoicing", invoicing, read),
    ):
        bench.report.add(Figure(name, "invoices/s", 1, measured, yardstick))
    bench.report.say(
        f"closed after {run.closed_after_s:.1f} s, invoiced after {run.done_after_s:.1f} s;"
        f" reading alone {read_s:.2f} s, writing alone {written_s:.2f} s"
    )
    for share in (0.5, 1.0):
        bench.report.add(
            Reading(
                f"invoices_memory_at_{share:.0%}",
                run.memory_at(share),
                "MiB",
                "at 10% of the invoices",
                run.memory_at(0.1),
                count,
            )
        )
    says = "events are loaded as ingest stores them: those compared went through it"
    bench.report.check(Check("invoices_events", says, EVENTS_EACH, unlike))
    await _check_amounts(bench, month)
    await _check_numbers(bench, month)


async def _read(connection: asyncpg.Connection, month: Month) -> float:
    started = time.perf_counter()
    row = await connection.fetchrow(_READ, month.organization.id, month.start, month.end)
    taken = time.perf_counter() - started
    if row["events"] != month.events:
        raise BenchError(f"{row['events']:,} events are stored, and not {month.events:,}")
    return taken


async def _watch(bench: Bench, month: Month) -> Run:
    """Let the month fall due; the worker of the server does the rest."""
    run, last, moved_at = Run(), (0, 0), 0.0
    started = time.perf_counter()
    await let_it_fall_due(bench.database, month)
    while not run.done_after_s:
        await asyncio.sleep(LOOK_EVERY_S)
        row = await bench.database.fetchrow(
            """select (select count(*) from due_items where org_id = $1 and due_at <= $2 and kind = 'period_end') as open,
                (select count(*) from due_items where org_id = $1 and due_at <= $2) as due,
                coalesce((select value from organization_counters where org_id = $1 and name = 'invoices'), 0) as invoices""",
            month.organization.id,
            month.end,
        )
        after_s = time.perf_counter() - started
        if not row["open"] and not run.closed_after_s:
            run.closed_after_s = after_s
        if not row["due"]:
            run.done_after_s = after_s
        if row["invoices"]:
            run.memory_mib.append((row["invoices"], memory_mib(bench.server.pid)))
        # Both: what is due becomes an invoice, and their sum stays.
        if (row["due"], row["invoices"]) != last:
            last, moved_at = (row["due"], row["invoices"]), after_s
        if after_s - moved_at > STUCK_AFTER_S:
            raise BenchError(f"nothing happens any more: {row['due']:,} things are still due")
    return run


async def _write(connection: asyncpg.Connection, month: Month) -> float:
    """Write the rows of all invoices once more, into tables of the same columns, indexes and checks, and no triggers."""
    for table in _WRITTEN:
        await connection.execute(f"create table bench_{table} (like {table} including all)")
    started = time.perf_counter()
    async with connection.transaction():
        for table in _WRITTEN:
            await connection.execute(
                f"insert into bench_{table} select * from {table} where org_id = $1", month.organization.id
            )
    taken = time.perf_counter() - started
    await connection.execute(f"drop table {', '.join(f'bench_{table}' for table in _WRITTEN)}")
    return taken


async def _check_amounts(bench: Bench, month: Month) -> None:
    """Every invoice against the plan's prices, worked out by one statement from the raw events."""
    row = await bench.database.fetchrow(
        f"""
        with usage as (
            select customer_id, {USAGES} from events, jsonb_to_record(properties) as sent (n numeric, region text)
            where org_id = $1 and occurred_at >= $2 and occurred_at < $3 group by 1
        ), expected as (
            select customer_id, {PRICED} as fees from usage
        ), owed as (
            select customer_id, fees, fees + round(fees * {TAX_PERCENT} / 100) as total from expected
        )
        select count(*) filter (where i.fees_amount_cents is distinct from owed.fees
                or i.total_amount_cents is distinct from owed.total) as wrong,
            sum(i.total_amount_cents) as billed, sum(owed.total) as owed, count(owed.total) as customers
        from owed full join (select * from invoices where org_id = $1) i using (customer_id)
        """,
        month.organization.id,
        month.start,
        month.end,
    )
    says = (
        f"{row['customers']:,} invoices come to {row['billed'] or 0:,} cents, as SQL over the raw events says,"
        " each to its cent"
    )
    wrong = row["wrong"] + (row["billed"] != row["owed"]) + (row["customers"] != month.subscriptions)
    bench.report.check(Check("invoices_amounts", says, month.subscriptions, wrong))


async def _check_numbers(bench: Bench, month: Month) -> None:
    row = await bench.database.fetchrow(
        """
        select (select count(*) from invoices where org_id = $1 and status = 'finalized') as finalized,
            (select count(distinct sequential_id) from invoices where org_id = $1
              and sequential_id between 1 and $2) as numbers,
            (select count(*) from (select 1 from invoice_subscriptions where org_id = $1 and period_start = $3
              and period_end = $4 group by subscription_id having count(*) = 1) once) as once,
            (select count(*) from invoice_subscriptions where org_id = $1) as periods,
            (select count(*) from due_items where org_id = $1 and parked_at is not null) as parked,
            (select count(*) from due_items where org_id = $1 and kind = 'period_end' and due_at > $4) as opened
        """,
        month.organization.id,
        month.subscriptions,
        month.start,
        month.end,
    )
    count = month.subscriptions
    says = (
        f"numbers 1 to {count:,} without a gap, one invoice a period, the next period open, nothing put aside"
    )
    wrong = row["parked"] + sum(
        abs(count - row[name]) for name in ("finalized", "numbers", "once", "periods", "opened")
    )
    bench.report.check(Check("invoices_numbers", says, count, wrong))


if __name__ == "__main__":
    main(measure, description=__doc__)
