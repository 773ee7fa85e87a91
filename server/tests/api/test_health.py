"""Health, ping and metrics, also while the database is away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from nozle_server.api.table import ENDPOINTS
from nozle_server.core.errors import Unavailable
from nozle_server.infra.database import Database

from .conftest import AnyServices, Client, Tenant

pytestmark = pytest.mark.database


class FlakyDatabase:
    """A database that can be taken away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.fault: BaseException | None = None
        self.hangs = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[object]:
        if self.hangs:
            await asyncio.sleep(60)
        if self.fault is not None:
            raise self.fault
        async with self._database.connection() as connection:
            yield connection


@pytest.fixture
def flaky(services: AnyServices, database: Database) -> FlakyDatabase:
    flaky = FlakyDatabase(database)
    services.database = flaky
    services.keys._database = flaky  # type: ignore[assignment]
    return flaky


async def test_health_is_constant(client: Client, flaky: FlakyDatabase) -> None:
    flaky.fault = Unavailable("down")
    answer = await client.send("GET", "/health")
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')


async def test_ping_tells_that_the_database_is_down_to_a_key_it_has_seen(
    client: Client, services: AnyServices, flaky: FlakyDatabase, tenant: Tenant
) -> None:
    await client.send("GET", "/api/v1/ping", key=tenant.publishable)
    flaky.fault = Unavailable("the database cannot be reached", code="database_unavailable")
    services.keys.forget_all()
    answer = await client.send("GET", "/api/v1/ping", key=tenant.publishable)
    assert (answer.status, answer.json) == (200, {"ok": False, "engine": "error"})


async def test_ping_cannot_vouch_for_a_key_it_has_not_seen(
    client: Client, flaky: FlakyDatabase, tenant: Tenant
) -> None:
    flaky.fault = Unavailable("the database cannot be reached", code="database_unavailable")
    answer = await client.send("GET", "/api/v1/ping", key=tenant.secret)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json == {
        "ok": False,
        "engine": "error",
        "error": "the database cannot be reached",
        "code": "database_unavailable",
    }


async def test_no_other_endpoint_trusts_a_key_of_yesterday(
    client: Client, services: AnyServices, flaky: FlakyDatabase, tenant: Tenant
) -> None:
    await client.send("GET", "/api/v1/ping", key=tenant.secret)
    flaky.fault = Unavailable("down")
    services.keys.forget_all()
    assert (await client.send("POST", "/api/v1/admin/reload", key=tenant.secret)).status == 503


async def test_ping_does_not_wait_for_a_database_that_hangs(
    client: Client, flaky: FlakyDatabase, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nozle_server.api.routes.health._PING_TIMEOUT_S", 0.05)
    await client.send("GET", "/api/v1/ping", key=tenant.secret)
    flaky.hangs = True
    answer = await client.send("GET", "/api/v1/ping", key=tenant.secret)
    assert (answer.status, answer.json["ok"]) == (200, False)


async def test_queue_metrics_are_open_prometheus_text(client: Client) -> None:
    answer = await client.send("GET", "/metrics/queues", client="203.0.113.7")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"# TYPE" in answer.body


async def test_metrics_count_requests_by_route_template(client: Client, tenant: Tenant) -> None:
    await client.send("GET", "/api/v1/ping", key=tenant.secret)
    await client.send("GET", "/api/v1/ping?customer_id=acme")
    await client.send("GET", "/secret-path/acme")
    answer = await client.send("GET", "/metrics")
    assert b'nozle_api_requests_total{endpoint="GET /api/v1/ping",status="200"} 1.0' in answer.body
    assert b'nozle_api_requests_total{endpoint="GET /api/v1/ping",status="401"} 1.0' in answer.body
    assert b'nozle_api_duration_seconds_count{endpoint="GET /api/v1/ping"} 2.0' in answer.body
    for secret in (b"acme", b"secret-path", str(tenant.id).encode()):
        assert secret not in answer.body


async def test_metrics_are_for_this_machine_or_with_the_secret(
    services: AnyServices, client_of: Callable[..., Client]
) -> None:
    bearer = [("authorization", "Bearer hush")]
    client = client_of(*ENDPOINTS)
    assert (await client.send("GET", "/metrics", client="::1")).status == 200
    assert (await client.send("GET", "/metrics", client="203.0.113.7")).status == 401
    assert (await client.send("GET", "/metrics", client="203.0.113.7", headers=bearer)).status == 401
    assert (await client.send("GET", "/metrics", headers=[("x-forwarded-for", "203.0.113.7")])).status == 401
    services.settings = services.settings.model_copy(update={"metrics_secret": "hush"})
    client = client_of(*ENDPOINTS)
    assert (await client.send("GET", "/metrics", client="203.0.113.7", headers=bearer)).status == 200
    for wrong in ("Bearer hus", "Bearer ", "hush", "Bearer hush ", "Bearer h\xfcsh"):
        answer = await client.send(
            "GET", "/metrics", client="203.0.113.7", headers=[("authorization", wrong)]
        )
        assert answer.status == 401


async def test_reload_drops_the_callers_caches(client: Client, services: AnyServices, tenant: Tenant) -> None:
    answer = await client.send("POST", "/api/v1/admin/reload", key=tenant.secret)
    assert answer.json == {
        "ok": True,
        "message": "caches reloaded",
        "reloaded": ["plans", "entitlements", "cost_models"],
    }
    assert services.reloaded == [tenant.id]
