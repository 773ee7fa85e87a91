"""The daily audit: a worker runs it, every process's metrics show what it found, the log names what differs."""

import asyncio
from datetime import UTC, datetime, time, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from structlog.testing import capture_logs

from nozle_server.audit.operations import audit_and_record
from nozle_server.audit.queries import CHECKS
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import Database
from nozle_server.infra.job_queue import JobQueue, enqueue
from nozle_server.infra.settings import Settings
from nozle_server.jobs.worker import Worker
from world import Client, World, build_app, open_world

pytestmark = pytest.mark.database

NOW = datetime(2026, 5, 1, 3, 37, tzinfo=UTC)
CHECK = "key_has_its_answer"


@pytest.fixture
async def merchant(fresh_database: Database) -> World:
    services = build_services(fresh_database, Settings(), SystemClock())
    return await open_world(Client(build_app(services)), services)


async def leave_a_key_unanswered(world: World) -> None:
    async with world.database.transaction() as tx:
        await tx.execute(
            """insert into idempotency_keys (org_id, operation, key, request_hash, created_at)
               values ($1, 'POST /x', 'k', '', now())""",
            world.org_id,
        )


async def metrics(database: Database) -> dict[str, float]:
    """What `/metrics` of another process on this database shows of the audit: findings by check, and the last run."""
    services = build_services(database, Settings(), SystemClock())
    answer = await Client(build_app(services)).send("GET", "/metrics", key=None)
    return {
        sample.labels.get("check", sample.name): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name.startswith("nozle_audit")
    }


async def test_every_process_shows_what_the_last_run_found(merchant: World) -> None:
    """Zero for each check that is clean; a run replaces the one before; nothing at all before the first."""
    database = merchant.database
    assert await metrics(database) == {}
    await leave_a_key_unanswered(merchant)
    await audit_and_record(database, NOW)
    shown = await metrics(database)
    assert shown.pop("nozle_audit_last_run_timestamp_seconds") == NOW.timestamp()
    assert {check for check, findings in shown.items() if findings} == {CHECK}
    assert {one.name for one in CHECKS} <= set(shown)
    async with database.transaction() as tx:
        await tx.execute("delete from idempotency_keys")
    await audit_and_record(database, NOW + timedelta(days=1))
    shown = await metrics(database)
    assert shown.pop("nozle_audit_last_run_timestamp_seconds") == (NOW + timedelta(days=1)).timestamp()
    assert not any(shown.values())


async def test_the_log_names_what_differs(merchant: World) -> None:
    await leave_a_key_unanswered(merchant)
    with capture_logs() as logs:
        await audit_and_record(merchant.database, NOW)
    [error] = [line for line in logs if line["log_level"] == "error"]
    assert (error["check"], error["findings"]) == (CHECK, 1)
    assert error["organization_id"] == str(merchant.org_id)
    assert error["ids"] == {"operation": "POST /x", "key": "k"}


async def test_a_worker_runs_it_at_its_time_and_not_when_it_is_off(merchant: World) -> None:
    async def drain(_: object) -> None: ...

    database = merchant.database
    queue = JobQueue(database)
    Worker(database, queue, SystemClock(), drain, audit_at=time(3, 37))
    assert ("audit", "37 3 * * *") in queue._schedules
    working = asyncio.create_task(queue.run())
    async with database.transaction() as tx:
        await enqueue(tx, "audit")
    async with asyncio.timeout(20):
        shown: dict[str, float] = {}
        while not shown:
            await asyncio.sleep(0.02)
            shown = await metrics(database)
    await queue.stop()
    await working
    off = JobQueue(database)
    Worker(database, off, SystemClock(), drain, audit_at=None)
    assert "audit" not in {name for name, _ in off._schedules}


def test_its_time_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().audit_at == time(3, 37)
    for text, expected in (("23:59", time(23, 59)), ("00:00", time(0, 0)), ("off", None)):
        monkeypatch.setenv("NOZLE_AUDIT_AT", text)
        settings = Settings()
        assert settings.audit_at == expected
        assert Settings(**settings.model_dump(mode="json")) == settings  # as the workers of a server are told
    for text in ("24:00", "3:37", "03:37:10", "", "never"):
        monkeypatch.setenv("NOZLE_AUDIT_AT", text)
        with pytest.raises(ValidationError, match="NOZLE_AUDIT_AT"):
            Settings()
