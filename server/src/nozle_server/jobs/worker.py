"""What workers do in the background: which job calls which operation, and when the regular ones run."""

from collections.abc import Awaitable, Callable
from datetime import time
from uuid import UUID

from nozle_server.audit.operations import audit_and_record
from nozle_server.core.clock import Clock
from nozle_server.infra import due, partitions, retention
from nozle_server.infra.database import Database
from nozle_server.infra.job_queue import JobQueue
from nozle_server.wallets import store as wallets_store
from nozle_server.wallets.operations.invoices import schedule_thresholds


class Worker:
    """The jobs of this server, registered with `queue`; run the queue to run them.

    `clock` is real time. `drain` does everything that is due in one organization, in order. `audit_at` is the hour and
    minute (UTC) of the daily audit; None: there is none.
    """

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        clock: Clock,
        drain: Callable[[UUID], Awaitable[None]],
        *,
        audit_at: time | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._drain = drain
        self._draining: set[UUID] = set()
        self._again: set[UUID] = set()
        queue.register(due.DRAIN_DUE, self._drain_due)
        queue.register("sweep", self._sweep)
        queue.register("prune", self._prune)
        queue.register("prune_usage_news", self._prune_usage_news)
        queue.register("partitions", self._partitions)
        queue.register("wallets", self._wallets)
        queue.register("audit", self._audit)
        queue.every("sweep", "* * * * *")
        queue.every("wallets", "*/5 * * * *")
        queue.every("prune", "23 * * * *")
        queue.every("prune_usage_news", "* * * * *")
        # Four chances a day, for days that lie ahead: a busy default partition may turn some of them down.
        queue.every("partitions", "47 */6 * * *")
        if audit_at is not None:
            queue.every("audit", f"{audit_at.minute} {audit_at.hour} * * *")

    async def _drain_due(self, payload: bytes) -> None:
        """Drain an organization; where this process does already, that goes on with what this job is for.

        Two at once would wait for each other's locks, and give up. A death in the middle loses nothing: the job that was
        at it is taken over.
        """
        org_id = UUID(bytes=payload)
        self._again.add(org_id)
        if org_id in self._draining:
            return
        self._draining.add(org_id)
        try:
            while org_id in self._again:
                self._again.discard(org_id)
                await self._drain(org_id)
        finally:
            self._draining.discard(org_id)

    async def _sweep(self, _: bytes) -> None:
        async with self._database.transaction() as tx:
            await due.enqueue_overdue(tx, self._clock.now())

    async def _wallets(self, _: bytes) -> None:
        async with self._database.transaction() as tx:
            for org_id in await wallets_store.list_organizations_with_thresholds(tx):
                await schedule_thresholds(tx, org_id, self._clock.now())

    async def _audit(self, _: bytes) -> None:
        await audit_and_record(self._database, self._clock.now())

    async def _prune(self, _: bytes) -> None:
        await retention.prune(self._database, self._clock.now())

    async def _prune_usage_news(self, _: bytes) -> None:
        await retention.prune_usage_news(self._database)

    async def _partitions(self, _: bytes) -> None:
        async with self._database.as_owner() as connection:
            await partitions.ensure_event_partitions(connection, self._clock.now().date())
