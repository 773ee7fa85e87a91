"""Decisions without HTTP: what the product decides about a snapshot that it has, in this process."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from harness.measurement import BenchError
from nozle_server.core.clock import SystemClock
from nozle_server.entitlements import queries
from nozle_server.entitlements.decision import decide
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.model import Decision, Facts
from nozle_server.entitlements.queries import Question, decide_question
from nozle_server.entitlements.snapshot import CustomerSnapshot
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.infra.database import Database
from nozle_server.infra.estimates import Estimates
from nozle_server.infra.postgres_usage import PostgresUsageStore

ROUNDS, TIMES = 5, 20_000
KEPT_S = 3600.0
"""So that the figures last as long as the bench."""


async def measure(database_url: str, org_id: str, customer: str, feature: str) -> tuple[float, float]:
    """Microseconds for the rule alone, facts in and decision out; and for all from question to decision, by a snapshot
    and figures that are known."""
    database = await Database.connect(database_url, connections=1)
    try:
        async with database.connection() as connection:
            organization = await read_organization(connection, UUID(org_id))
            snapshot = await read_customer(connection, organization, customer)
        kept = Estimates(kept_s=KEPT_S, kept_empty_s=KEPT_S)
        economics = Economics(database, PostgresUsageStore(), SystemClock(), kept)
        question, now = Question(customer, feature, {}), datetime.now(UTC)
        facts = await _facts_of(snapshot, economics, question, now)

        def ask() -> None:
            # All is known, so it answers without waiting for anything.
            try:
                decide_question(snapshot, economics, question, with_costs=True, real_now=now).send(None)
            except StopIteration:
                return
            raise BenchError("a figure was not known any more")

        return _microseconds(lambda: decide(facts)), _microseconds(ask)
    finally:
        await database.close()


async def _facts_of(
    snapshot: CustomerSnapshot, economics: Economics, question: Question, now: datetime
) -> Facts:
    """What the rule is given for this question; reads the figures, too."""
    taken: list[Facts] = []

    def note(facts: Facts) -> Decision:
        taken.append(facts)
        return decide(facts)

    queries.decide = note  # type: ignore[attr-defined]
    try:
        await decide_question(snapshot, economics, question, with_costs=True, real_now=now)
    finally:
        queries.decide = decide  # type: ignore[attr-defined]
    return taken[0]


def _microseconds(call: Callable[[], object]) -> float:
    """The best of some rounds: what else the machine does can only add."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(TIMES):
            call()
        best = min(best, time.perf_counter() - began)
    return best / TIMES * 1e6
