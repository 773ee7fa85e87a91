"""Check-and-deduct over HTTP and in process, beside the same transaction by pgbench on the same database; and again on
a disk whose sync takes 2 ms more."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from harness import client, in_process, pgbench, tools
from harness.bench import Bench, main
from harness.in_process import Callers
from harness.load import Load
from harness.report import Check, Figure, Yardstick
from harness.server import Organization
from harness.traffic import Traffic, post
from harness.world import copy_rows, customer_names, enrol, grant, json_text

PLAN = "scale"  # the one without credits of its own
PGBENCH = "same SQL by pgbench"
ONE_STATEMENT = "one statement, same driver"
CALLERS = (1, 16, 64, 256)
PGBENCH_MAX = 64
"""pgbench gets no faster on one row with more clients, and each needs a connection."""
SLOW_SYNC_US = 2000
RACING = 1_000
RACED_FOR = 500

# Accounts whose balance is not the sum of their entries, of their grants, of what was moved, or ever was negative.
_INEXACT = """
select count(*) from credit_accounts a
cross join lateral (
    select coalesce(sum(amount), 0) as total, count(*) as entries, min(balance_after) as lowest from ledger_entries
    where org_id = a.org_id and account_id = a.id) e
cross join lateral (
    select coalesce(sum(remaining), 0) as remaining, coalesce(sum(m.moved), 0) as moved from credit_grants g
    cross join lateral (
        select sum(amount) as moved from ledger_allocations where org_id = g.org_id and grant_id = g.id) m
    where g.org_id = a.org_id and g.account_id = a.id) g
where a.org_id = $1 and (a.balance < 0 or e.lowest < 0 or a.last_sequence <> e.entries
    or a.balance <> e.total or a.balance <> g.remaining or a.balance <> g.moved)
"""


async def measure(bench: Bench) -> None:
    """Deduct 1 credit at a time: of one customer, then of 1,000 in random order."""
    organization = await bench.server.open_organization("bench")
    names = customer_names()
    await enrol(bench.server, organization, names, plan=PLAN)
    await grant(bench.server, organization, names)
    copies = str(uuid4())
    await copy_rows(bench.database, organization.id, copies)
    # As autovacuum does within minutes: connections that were there when the tables were empty keep plans made for empty ones.
    await bench.database.execute("analyze")
    load = Load(bench.server.port)
    kinds = (("hot", "1 hot customer", names[:1]), ("1000", "1,000 customers", names))
    for kind, what, customers in kinds:
        bench.report.begin(f"check-and-deduct over HTTP: {what}, requests/s")
        traffic = Traffic([_deduction(organization, name, 1) for name in customers])
        for connections in bench.connections:
            measured = await load.measure(traffic, connections=connections, seconds=bench.seconds)
            yardstick = await _pgbench(bench, copies, len(customers), connections)
            name = f"deduct_{kind}_c{connections}"
            bench.report.add(Figure(name, "requests/s", connections, measured, yardstick))
    url = bench.server.database_url
    async with in_process.grouped(url, organization.id) as callers:
        for kind, what, customers in kinds:
            bench.report.begin(f"deductions in process: {what}, decisions/s")
            await _in_process(bench, f"in_process_{kind}", callers, customers, copies)
        async with _slower_sync(bench.database):
            bench.report.begin("deductions in process: 1 hot customer, each sync 2 ms slower, decisions/s")
            await _in_process(bench, "in_process_hot_slow_disk", callers, names[:1], copies)
    await _check_ledger(bench, organization)
    await _check_taken(bench, organization, load, callers)
    await _check_race(bench, organization)


async def _in_process(bench: Bench, name: str, callers: Callers, customers: list[str], copies: str) -> None:
    for count in CALLERS if max(bench.connections) >= PGBENCH_MAX else CALLERS[:2]:
        measured = await callers.measure(customers, callers=count, seconds=bench.seconds)
        figure = f"{name}_c{count}"
        if count == 1:
            async with in_process.one_statement_each(bench.server.database_url, copies) as alone:
                single = await alone.measure(customers, callers=1, seconds=bench.seconds)
            bench.report.add(Figure(figure, "decisions/s", count, measured, Yardstick(ONE_STATEMENT, single)))
        yardstick = await _pgbench(bench, copies, len(customers), min(count, PGBENCH_MAX))
        bench.report.add(Figure(figure, "decisions/s", count, measured, yardstick))


@asynccontextmanager
async def _slower_sync(database: asyncpg.Connection) -> AsyncIterator[None]:
    """PostgreSQL sleeps 2 ms before each sync of its log, as if the disk were a cloud's; who waits meanwhile shares it."""
    await database.execute(f"alter system set commit_delay = {SLOW_SYNC_US}")
    await database.execute("alter system set commit_siblings = 0")
    await database.execute("select pg_reload_conf()")
    try:
        yield
    finally:
        await database.execute("alter system reset commit_delay")
        await database.execute("alter system reset commit_siblings")
        await database.execute("select pg_reload_conf()")


async def _pgbench(bench: Bench, org_id: str, customers: int, connections: int) -> Yardstick:
    program = tools.find_pgbench()
    if program is None:
        return Yardstick(PGBENCH, skipped="pgbench is not installed")
    measured = await pgbench.measure(
        program,
        bench.server.database_url,
        "deduct.sql",
        {"org": org_id, "customers": customers},
        connections=connections,
        seconds=bench.seconds,
    )
    return Yardstick(PGBENCH, measured)


async def _check_ledger(bench: Bench, organization: Organization) -> None:
    accounts = await bench.database.fetchval(
        "select count(*) from credit_accounts where org_id = $1", organization.id
    )
    inexact = await bench.database.fetchval(_INEXACT, organization.id)
    says = "every balance is the sum of its entries and of its grants, and never was negative"
    bench.report.check(Check("deduct_ledger", says, accounts, inexact))


async def _check_taken(bench: Bench, organization: Organization, load: Load, callers: Callers) -> None:
    """There is credit enough, so every answer was an allowance of 1 credit."""
    answered = load.answered + callers.taken
    taken = await bench.database.fetchval(
        "select coalesce(-sum(amount), 0) from ledger_entries where org_id = $1 and type = 'deduct'",
        organization.id,
    )
    says = f"{answered:,} answers, and at most {load.unseen:,} unseen, took {taken:,.0f} credits"
    off = max(0, answered - taken, taken - answered - load.unseen)
    bench.report.check(Check("deduct_taken", says, answered, int(off)))


async def _check_race(bench: Bench, organization: Organization) -> None:
    """More is asked for than there is, by all connections at once."""
    [name] = names = ["racer"]
    await enrol(bench.server, organization, names, plan=PLAN)
    await grant(bench.server, organization, names, credits_each=RACED_FOR)
    chance = random.Random(1)
    requests = [_deduction(organization, name, chance.randint(1, 7)) for _ in range(RACING)]
    answers = await client.send_all_good(bench.server.port, requests, connections=max(bench.connections))
    allowed = sum(json.loads(answer.body)["allowed"] for answer in answers)
    row = await bench.database.fetchrow(
        """select a.balance, count(*) as entries, -sum(e.amount) as taken from credit_accounts a
           join customers c on c.org_id = a.org_id and c.id = a.customer_id
           join ledger_entries e on e.org_id = a.org_id and e.account_id = a.id and e.type = 'deduct'
           where a.org_id = $1 and c.external_id = $2 group by a.balance""",
        organization.id,
        name,
    )
    wrong = (row["entries"] != allowed) + (row["taken"] + row["balance"] != RACED_FOR) + (row["balance"] < 0)
    bench.report.check(
        Check(
            "deduct_race",
            f"racing for {RACED_FOR} credits, {allowed} requests were allowed and took {row['taken']:,.0f},"
            f" {row['balance']:,.0f} is left",
            RACING,
            wrong,
        )
    )


def _deduction(organization: Organization, name: str, amount: int) -> str:
    body = {"customer_id": name, "feature": "chat", "credits": amount}
    return post("/api/v1/check-and-deduct", organization.key, json_text(body))


if __name__ == "__main__":
    main(measure, description=__doc__)
