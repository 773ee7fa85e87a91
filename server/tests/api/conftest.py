"""What the tests of the edge share: an application in this process, and a client that speaks raw ASGI to it.

The client sends paths, headers and bodies exactly as given, which ordinary HTTP clients would tidy up.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from nozle_server.api.app import build_app
from nozle_server.api.endpoint import Endpoint
from nozle_server.api.metrics import Metrics
from nozle_server.api.table import ENDPOINTS
from nozle_server.core.clock import FixedClock
from nozle_server.customers.model import CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.identity.key_cache import KeyCache
from nozle_server.identity.model import Mode
from nozle_server.identity.operations import create_organization, update_organization
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


@dataclass
class AnyServices:
    """What the edge needs of `bootstrap.Services`; `reloaded` tells whose caches were dropped."""

    database: Any
    keys: KeyCache
    settings: Settings = field(default_factory=Settings)
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    metrics: Metrics = field(default_factory=Metrics)
    reloaded: list[UUID] = field(default_factory=list)
    realtime: Any = field(default_factory=lambda: SimpleNamespace(hub=None))

    async def queue_metrics(self) -> str:
        return "# TYPE nozle_queue_size gauge\nnozle_queue_size 0\n"

    async def audit_metrics(self) -> str:
        return ""

    async def reload(self, _tx: object, org_id: UUID) -> None:
        self.reloaded.append(org_id)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends one request to an ASGI application."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def send(
        self,
        method: str,
        target: str | bytes,
        *,
        key: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: object = None,
        raw: bytes | None = None,
        chunks: Sequence[bytes] | None = None,
        client: str = "127.0.0.1",
    ) -> Answer:
        """`body` goes out as JSON with its type and length, `raw` as it is, `chunks` without a length."""
        target = target.encode() if isinstance(target, str) else target
        path, _, query = target.partition(b"?")
        pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        if key is not None:
            pairs.append((b"authorization", f"Bearer {key}".encode()))
        if body is not None:
            raw = json.dumps(body).encode()
            pairs.append((b"content-type", b"application/json"))
        if chunks is not None:
            pairs.append((b"transfer-encoding", b"chunked"))
        elif raw is not None:
            pairs.append((b"content-length", str(len(raw)).encode()))
            chunks = [raw]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": "/not-to-be-used",
            "raw_path": path,
            "query_string": query,
            "headers": pairs,
            "client": (client, 50000),
            "server": ("127.0.0.1", 8080),
            "scheme": "http",
            "root_path": "",
        }
        return await self._exchange(scope, list(chunks or [b""]))

    async def _exchange(self, scope: dict[str, Any], chunks: list[bytes]) -> Answer:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        headers = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


@dataclass(frozen=True)
class Tenant:
    """An organization with its keys, and a customer `acme`."""

    id: UUID
    secret: str
    publishable: str
    customer_id: UUID


@pytest.fixture
def services(database: Database) -> AnyServices:
    return AnyServices(database, KeyCache(database))


@pytest.fixture
def client(services: AnyServices) -> Client:
    """A client of the whole API."""
    return Client(build_app(services, ENDPOINTS))  # type: ignore[arg-type]


@pytest.fixture
def client_of(services: AnyServices) -> Callable[..., Client]:
    """Makes a client of an API that consists of the given endpoints."""

    def build(*endpoints: Endpoint) -> Client:
        return Client(build_app(services, endpoints))  # type: ignore[arg-type]

    return build


@pytest.fixture
def new_tenant(database: Database) -> Callable[..., Awaitable[Tenant]]:
    """Makes an organization; keyword arguments are its settings."""

    async def create(mode: Mode = Mode.TEST, **settings: object) -> Tenant:
        async with database.transaction() as tx:
            organization, secret, publishable = await create_organization(
                tx, name="Merchant", mode=mode, now=NOW
            )
            await update_organization(tx, org_id=organization.id, settings=settings)
            customer = await upsert_customer(
                tx, org_id=organization.id, changes=CustomerChanges("acme"), now=NOW
            )
        return Tenant(organization.id, secret, publishable, customer.id)

    return create


@pytest.fixture
async def tenant(new_tenant: Callable[..., Awaitable[Tenant]]) -> Tenant:
    return await new_tenant()
