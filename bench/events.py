"""Meter events over HTTP, one at a time and in batches, beside the same SQL by pgbench and raw COPY."""

import random
from uuid import uuid4

from harness import client, copying, pgbench, tools
from harness.bench import Bench, main
from harness.load import Load
from harness.report import Check, Figure, Yardstick
from harness.server import Organization
from harness.traffic import Traffic, fill, post
from harness.world import TOKENS, copy_rows, customer_names, enrol, event, json_text, send_events

PLAN = "scale"
PGBENCH = "same SQL by pgbench"
BATCHES = (100, 1_000)
MAX_EVENTS_AT_ONCE = 16_000
"""More on all connections together only wait for each other."""
VARIANTS = 10
"""How many different batches are sent; each names other customers."""
REPEATED = 500

# Subscriptions whose counter differs from the events stored for them.
_MISCOUNTED = """
select count(*) from usage_counters u full join (
    select subscription_id, sum(quantity) as units, count(*) as events from events
    where org_id = $1 and status = 'counted' group by subscription_id
) e using (subscription_id)
where coalesce(u.org_id, $1) = $1 and (u.units is distinct from e.units or u.events_count is distinct from e.events)
"""


async def measure(bench: Bench) -> None:
    """Send events of 1,000 customers, chosen at random."""
    organization = await bench.server.open_organization("bench")
    names = customer_names()
    await enrol(bench.server, organization, names, plan=PLAN)
    copies = str(uuid4())
    await copy_rows(bench.database, organization.id, copies)
    await send_events(bench.server, organization, names)
    answered, unseen = await _measure_single(bench, organization, names, copies)
    answered += len(names)
    for size in BATCHES:
        load = await _measure_batches(bench, organization, names, size)
        answered += size * load.answered
        unseen += size * load.unseen
    await _check_counters(bench, organization, answered, unseen)
    await _check_repeats(bench, organization, names)


async def _measure_single(
    bench: Bench, organization: Organization, names: list[str], copies: str
) -> tuple[int, int]:
    bench.report.begin(f"single events over HTTP: {len(names):,} customers, events/s")
    load = Load(bench.server.port)
    traffic = Traffic([_single(organization, name, number) for number, name in enumerate(names)])
    for connections in bench.connections:
        measured = await load.measure(traffic, connections=connections, seconds=bench.seconds)
        yardstick = await _pgbench(bench, copies, len(names), connections)
        bench.report.add(
            Figure(f"events_single_c{connections}", "events/s", connections, measured, yardstick)
        )
    return load.answered, load.unseen


async def _measure_batches(bench: Bench, organization: Organization, names: list[str], size: int) -> Load:
    bench.report.begin(f"batches of {size:,} events over HTTP: {len(names):,} customers, events/s")
    load = Load(bench.server.port)
    chance = random.Random(size)
    traffic = Traffic(
        [_batch(organization, [chance.choice(names) for _ in range(size)]) for _ in range(VARIANTS)]
    )
    rows = await copying.stored_rows(bench.database, size)
    for connections in (each for each in bench.connections if each * size <= MAX_EVENTS_AT_ONCE):
        measured = await load.measure(traffic, connections=connections, seconds=bench.seconds)
        copied = await copying.measure(
            bench.server.database_url, rows, connections=connections, seconds=bench.seconds
        )
        yardstick = Yardstick("raw COPY of the same rows", copied)
        name = f"events_batch_{size}_c{connections}"
        bench.report.add(Figure(name, "events/s", connections, measured, yardstick, each=size))
    return load


async def _pgbench(bench: Bench, org_id: str, customers: int, connections: int) -> Yardstick:
    program = tools.find_pgbench()
    if program is None:
        return Yardstick(PGBENCH, skipped="pgbench is not installed")
    row = await bench.database.fetchrow(
        """select m.id as metric, c.id as cost_model from billable_metrics m
           join cost_models c on c.org_id = m.org_id and c.metric_code = m.code where m.org_id = $1""",
        org_id,
    )
    measured = await pgbench.measure(
        program,
        bench.server.database_url,
        "event.sql",
        {"org": org_id, "customers": customers, **row},
        connections=connections,
        seconds=bench.seconds,
    )
    return Yardstick(PGBENCH, measured)


async def _check_counters(bench: Bench, organization: Organization, answered: int, unseen: int) -> None:
    stored, claimed, tokens = await _totals(bench, organization)
    miscounted = await bench.database.fetchval(_MISCOUNTED, organization.id)
    says = "every counter is the sum of the events stored for its subscription"
    bench.report.check(Check("events_counters", says, stored, miscounted))
    says = (
        f"{answered:,} events answered, and at most {unseen:,} unseen, are {stored:,} stored and counted once"
    )
    off = max(0, answered - stored, stored - answered - unseen)
    wrong = off + abs(claimed - stored) + abs(tokens - TOKENS * stored)
    bench.report.check(Check("events_stored", says, stored, wrong))


async def _check_repeats(bench: Bench, organization: Organization, names: list[str]) -> None:
    """Each event is sent three times, in any order and at once."""
    before, _, tokens_before = await _totals(bench, organization)
    distinct = [fill(_single(organization, name, number)) for number, name in enumerate(names[:REPEATED])]
    requests = 3 * distinct
    random.Random(1).shuffle(requests)
    await client.send_all_good(bench.server.port, requests, connections=max(bench.connections))
    after, _, tokens_after = await _totals(bench, organization)
    says = (
        f"{len(requests):,} requests with {REPEATED:,} events, three times each, stored and counted each once"
    )
    wrong = abs(after - before - REPEATED) + abs(tokens_after - tokens_before - REPEATED * TOKENS)
    bench.report.check(Check("events_repeated", says, len(requests), wrong))


async def _totals(bench: Bench, organization: Organization) -> tuple[int, int, int]:
    """Events stored, ids claimed, and tokens counted."""
    row = await bench.database.fetchrow(
        """select (select count(*) from events where org_id = $1) as stored,
            (select count(*) from event_ids where org_id = $1) as claimed,
            (select coalesce(sum(units), 0)::bigint from usage_counters where org_id = $1) as tokens""",
        organization.id,
    )
    return row["stored"], row["claimed"], row["tokens"]


def _single(organization: Organization, name: str, number: int) -> str:
    return post("/api/v1/events", organization.key, json_text(event(name, number)))


def _batch(organization: Organization, names: list[str]) -> str:
    events = [event(name, number) for number, name in enumerate(names)]
    return post("/api/v1/events/batch", organization.key, json_text({"events": events}))


if __name__ == "__main__":
    main(measure, description=__doc__)
