"""How pgqueuer reaches our database and hears of new jobs. Known to `infra/job_queue.py` alone."""

from datetime import UTC, datetime

import anyio
import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence.qb import (
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.applications import PgQueuer
from pgqueuer.domain.models import TableChangedEvent
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.ports.driver import NotifyCallback

# Every name spelt out: pgqueuer would take them from variables as common as CHANNEL, FUNCTION and TRIGGER.
SETTINGS = DBSettings.model_validate(
    {
        "prefix": "",
        "db_schema": None,
        "channel": "ch_pgqueuer",
        "function": "fn_pgqueuer_changed",
        "statistics_table": "pgqueuer_statistics",
        "queue_status_type": "pgqueuer_status",
        "queue_table": "pgqueuer",
        "queue_table_log": "pgqueuer_log",
        "trigger": "tg_pgqueuer_changed",
        "schedules_table": "pgqueuer_schedules",
        "durability": Durability.durable,
        "widen_id": True,
    }
)


class Driver(AsyncpgPoolDriver):
    """pgqueuer's own pool driver, but for notifications: `wake` stands for those of the trigger we left out.

    pgqueuer listens on one connection and never again when that is lost; `infra/wake_ups.py` does.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self._listeners: list[NotifyCallback] = []

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:  # noqa: ARG002 - there is one
        self._listeners.append(callback)

    async def remove_listener(self, channel: str, callback: NotifyCallback) -> None:  # noqa: ARG002
        self._listeners.remove(callback)

    async def notify(self, channel: str, payload: str) -> None:  # noqa: ARG002
        """pgqueuer notifies only itself, to see whether its listener lives."""
        self._hand_on(payload)

    async def wake(self, connection: asyncpg.Connection) -> None:
        """Have pgqueuer look for jobs at once. `connection` is asked too, so that a dead one shows itself."""
        self._hand_on(
            TableChangedEvent(
                channel=SETTINGS.channel,
                sent_at=datetime.now(UTC),
                type="table_changed_event",
                operation="insert",
                table=SETTINGS.queue_table,
            ).model_dump_json()
        )
        await connection.fetchval("select 1")

    def _hand_on(self, payload: str) -> None:
        for callback in self._listeners:
            callback(payload)


def load() -> None:
    """Import what pgqueuer would import at its first job: a tenth of a second in which nobody else is answered. To be called
    while a loop runs."""
    anyio.CancelScope()


def build(driver: Driver) -> PgQueuer:
    queries = Queries(
        driver,
        qbe=QueryBuilderEnvironment(SETTINGS),
        qbq=QueryQueueBuilder(SETTINGS),
        qbs=QuerySchedulerBuilder(SETTINGS),
    )
    return PgQueuer(connection=driver, channel=SETTINGS.channel, queries=queries)
