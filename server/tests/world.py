"""The world of a scenario: the real application over the test database, told what happens through its HTTP API.

A world is one organization in test mode. `world.at("2026-01-01")` turns its clock and then does what follows, so that
a test reads as a story told in dates:

    await world.at("2026-01-01").subscribe("acme", "pro")
    await world.at("2026-02-01")
    assert await world.lines("acme") == [("Pro, monthly fee", 4900)]

Builders (`a_plan`, `a_metric`, ...) make an object with good defaults through the API and return its code. Numbers in
answers are exact (`Decimal`).
"""

import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest

import announced
from nozle_server.api.app import Application, build_app
from nozle_server.audit.queries import audit as run_audit
from nozle_server.bootstrap import Services, build_services
from nozle_server.core.clock import SystemClock
from nozle_server.core.standing import FOR_NOW
from nozle_server.entitlements.news import rights_of_everybody
from nozle_server.identity.model import Mode
from nozle_server.identity.operations import update_organization
from nozle_server.infra.database import Database
from nozle_server.infra.settings import Settings
from nozle_server.workflows.onboarding import open_organization

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)

    @property
    def code(self) -> str | None:
        """The stable code of an error."""
        code = self.json.get("code")
        assert code is None or isinstance(code, str)
        return code

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"


class Client:
    """Speaks to the application as a server would: paths and bodies exactly as given."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def send(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        key: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`body` goes out as JSON, or as it is when it is bytes."""
        raw = b"" if body is None else body if isinstance(body, bytes) else to_json(body)
        path, _, query = target.partition("?")
        pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        if key is not None:
            pairs.append((b"authorization", f"Bearer {key}".encode("latin-1")))
        if body is not None:
            pairs += [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
        scope: JsonObject = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": pairs,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8080),
            "scheme": "http",
            "root_path": "",
        }
        sent: list[JsonObject] = []

        async def receive() -> JsonObject:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def take(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, take)  # type: ignore[arg-type]
        answered = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], answered, b"".join(part.get("body", b"") for part in sent[1:]))


def to_json(value: object) -> bytes:
    """JSON in which a Decimal is a number with exactly its digits."""
    marks: dict[str, str] = {}

    def mark(number: object) -> str:
        assert isinstance(number, Decimal), f"cannot send {number!r}"
        name = uuid.uuid4().hex
        marks[f'"{name}"'] = format(number, "f")
        return name

    text = json.dumps(value, default=mark)
    for name, number in marks.items():
        text = text.replace(name, number)
    return text.encode()


def instant(text: str) -> datetime:
    """An instant from a date (midnight UTC) or an RFC 3339 text."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def rfc3339(text: str) -> str:
    return instant(text).isoformat().replace("+00:00", "Z")


class World:
    """One organization, its keys, and what can happen in it. Every deed expects success unless it says otherwise."""

    def __init__(
        self, client: Client, services: Services, org_id: uuid.UUID, secret: str, publishable: str
    ) -> None:
        self.client, self.services, self.org_id = client, services, org_id
        self.secret, self.publishable = secret, publishable

    @property
    def database(self) -> Database:
        return self.services.database

    # Speaking HTTP.

    async def call(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Any call, with the secret key unless another is given, and its answer whatever it is."""
        answer = await self.client.send(method, target, body, key=key or self.secret, headers=headers)
        assert answer.status < 500 or answer.status == 503, (
            f"{method} {target[:200]}: {answer.status} {answer.body[:500]!r}"
        )
        return answer

    async def get(self, target: str, **query: object) -> Any:
        return _good(await self.call("GET", with_query(target, query)))

    async def post(self, target: str, body: object, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return _good(await self.call("POST", target, body, headers=named))

    # Time.

    def at(self, when: str) -> "Moment":
        """Turn the clock to a date or instant: await it, or await a deed called on it."""
        return Moment(self, when)

    async def turn(self, when: str) -> None:
        await self.post("/api/v1/test-clock", {"now": rfc3339(when)})

    # Builders.

    async def a_metric(self, *, code: str = "tokens", how: str = "sum_agg", **more: object) -> str:
        """A billable metric; all but a count look at the property `n`."""
        wanted = {"code": code, "name": code, "aggregation_type": how, **more}
        if how != "count_agg" and not more.get("expression"):
            wanted.setdefault("field_name", "n")
        await self.post("/core/api/v1/billable_metrics", {"billable_metric": wanted})
        return code

    async def a_feature(self, *, code: str = "chat", metric: str | None = "tokens", **more: object) -> str:
        wanted = {"code": code, "billable_metric_code": metric, **more}
        await self.post("/core/api/v1/features", {"feature": wanted})
        return code

    async def a_plan(self, *, code: str = "pro", amount_cents: int = 0, **more: object) -> str:
        """A monthly plan in USD, free unless it says otherwise."""
        wanted: JsonObject = {"code": code, "name": code.title(), "interval": "monthly", **more}
        await self.post("/core/api/v1/plans", {"plan": {"amount_cents": amount_cents, **wanted}})
        return code

    async def a_customer(self, external_id: str = "acme", **more: object) -> str:
        body = {"customer": {"external_id": external_id, **more}}
        await self.post("/core/api/v1/customers", body)
        return external_id

    async def a_wallet(self, customer: str = "acme", **more: object) -> JsonObject:
        """An empty wallet in USD, a dollar a credit, unless it says otherwise."""
        wanted = {"external_customer_id": customer, "rate_amount": "1", "currency": "USD", **more}
        made = (await self.post("/core/api/v1/wallets", {"wallet": wanted}))["wallet"]
        assert isinstance(made, dict)
        return made

    async def an_entity(
        self, external_id: str = "agent", customer: str = "acme", **more: object
    ) -> JsonObject:
        """An active entity, as `more` says; with what became of it in `action`."""
        place = f"/api/v1/customers/{quote(customer, safe='')}/entities/{quote(external_id, safe='')}"
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        answer = _good(await self.call("PUT", place, {"status": "active", **more}, headers=headers))
        return {**answer["entity"], "action": answer["action"]}

    async def a_cost_model(self, *, metric: str = "tokens", name: str = "cost", **more: object) -> str:
        made = await self.post("/api/v1/cost-models", {"name": name, "metric_code": metric, **more})
        assert isinstance(made["id"], str)
        return made["id"]

    async def a_margin_policy(self, whose: str = "organization", **terms: object) -> JsonObject:
        """Set it; `whose` is "organization", or as "plan/pro"."""
        made = _good(await self.call("PUT", f"/api/v1/margin/policies/{whose}", terms))
        assert isinstance(made, dict)
        return made

    async def settings(self, **settings: object) -> None:
        """Settings of the organization that have no endpoint yet."""
        async with self.database.transaction() as tx:
            await update_organization(tx, org_id=self.org_id, settings=settings)
            await self.services.bus.publish(tx, rights_of_everybody(self.org_id))
        self.services.keys.forget_all()

    # Deeds.

    async def subscribe(self, customer: str, plan: str, **more: object) -> str:
        """Put the customer on the plan; returns the subscription's id."""
        body = {"customer_id": customer, "plan_code": plan, **more}
        made = await self.post("/api/v1/subscribe", body)
        assert isinstance(made["subscription_id"], str)
        return made["subscription_id"]

    async def assign(self, customer: str, plan: str, external_id: str, **more: object) -> JsonObject:
        """Core's POST /subscriptions: a plan under an id of the caller's; the subscription."""
        wanted = {"external_customer_id": customer, "plan_code": plan, "external_id": external_id, **more}
        made = await self.post("/core/api/v1/subscriptions", {"subscription": wanted})
        assert isinstance(made["subscription"], dict)
        return made["subscription"]

    async def change_plan(self, customer: str, plan: str, **more: object) -> JsonObject:
        body = {"customer_id": customer, "plan_code": plan, **more}
        changed = await self.post("/api/v1/billing/upgrade", body)
        assert isinstance(changed, dict)
        return changed

    async def preview_change(self, customer: str, plan: str, **more: object) -> JsonObject:
        body = {"customer_id": customer, "plan_code": plan, **more}
        shown = await self.post("/api/v1/subscriptions/preview", body)
        assert isinstance(shown, dict)
        return shown

    async def cancel(self, subscription: str, **query: object) -> JsonObject:
        answer = await self.call("DELETE", with_query(f"/api/v1/subscriptions/{quote(subscription)}", query))
        ended = _good(answer)
        assert isinstance(ended, dict)
        return ended

    async def use(
        self, customer: str, n: object = 1, *, code: str = "tokens", id: str | None = None, **more: Any
    ) -> JsonObject:
        """An event in Core's form with the property `n`; the stored event."""
        properties = {"n": n, **more.pop("properties", {})}
        event = {"transaction_id": id or uuid.uuid4().hex, "external_customer_id": customer, "code": code}
        body = {"event": {**event, "properties": properties, **more}}
        stored = (await self.post("/api/v1/events", body))["event"]
        assert isinstance(stored, dict)
        return stored

    async def grant(self, customer: str, amount: object, **more: object) -> JsonObject:
        given = await self.post(f"/api/v1/credits/{quote(customer)}/grants", {"amount": amount, **more})
        assert isinstance(given, dict)
        return given

    async def deduct(self, customer: str, credits: object, **headers: str) -> tuple[bool, Decimal]:
        """check-and-deduct: (allowed, remaining)."""
        body = {"customer_id": customer, "feature": "chat", "credits": credits}
        answer = await self.post("/api/v1/check-and-deduct", body, **headers)
        return answer["allowed"], Decimal(answer["remaining"])

    # Looking.

    async def can(self, customer: str, feature: str = "chat", **more: object) -> JsonObject:
        query = {"customer_id": customer, "feature": feature, **more}
        answer = await self.get("/api/v1/can", **query)
        assert isinstance(answer, dict)
        return answer

    async def reason(self, customer: str, feature: str = "chat") -> tuple[bool, str]:
        answer = await self.can(customer, feature)
        return answer["allowed"], answer["reason"]

    async def balance(self, customer: str) -> Decimal:
        found = await self.get(f"/api/v1/credits/{quote(customer)}/balance")
        return Decimal(found["balance"])

    async def transactions(self, customer: str) -> list[tuple[str, Decimal]]:
        """(type, amount), oldest first."""
        found = await self.get(f"/api/v1/credits/{quote(customer)}/transactions", limit=100)
        return [(row["type"], Decimal(row["amount"])) for row in reversed(found["transactions"])]

    async def invoices(self, customer: str) -> list[JsonObject]:
        """The customer's invoices, oldest first; without the links to their PDFs, which are signed anew each time."""
        found = await self.get("/api/v1/invoices", customer_id=customer, per_page=100)
        links = ("file_url", "pdf_url")
        return [
            {name: value for name, value in invoice.items() if name not in links}
            for invoice in reversed(found["invoices"])
        ]

    async def last_invoice(self, customer: str) -> JsonObject:
        return (await self.invoices(customer))[-1]

    async def lines(self, customer: str) -> list[tuple[str, int]]:
        """(description, amount in cents) of the latest invoice's lines."""
        return [
            (line["description"], line["amount_cents"])
            for line in (await self.last_invoice(customer))["lines"]
        ]

    async def units(self, customer: str, metric: str = "tokens") -> Decimal:
        """Units of a metric on the latest invoice, over all its lines."""
        found = (await self.last_invoice(customer))["lines"]
        return sum((Decimal(line["units"]) for line in found if line["metric_code"] == metric), Decimal(0))

    async def event(self, transaction_id: str) -> JsonObject | None:
        answer = await self.call("GET", f"/core/api/v1/events/{quote(transaction_id, safe='')}")
        return answer.json["event"] if answer.status == 200 else None

    async def fetch(self, sql: str, *values: object) -> Sequence[Any]:
        """Rows straight from the database; `$1` is the organization. What is written past the product like this need not be
        announced."""
        async with self.database.transaction() as tx:
            rows = list(await tx.fetch(sql, self.org_id, *values))
            if not sql.lstrip().lower().startswith("select"):
                await announced.overlook(tx)
                self.services.snapshots.forget_all()
            return rows


class Moment:
    """An instant of a world: awaiting it turns the clock, and so does any deed called on it, first."""

    def __init__(self, world: World, when: str) -> None:
        self._world, self._when = world, when

    def __await__(self) -> Any:
        return self._world.turn(self._when).__await__()

    def __getattr__(self, deed: str) -> Any:
        async def turn_and_do(*values: object, **named: object) -> Any:
            await self._world.turn(self._when)
            return await getattr(self._world, deed)(*values, **named)

        return turn_and_do


def with_query(target: str, query: Mapping[str, object]) -> str:
    given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    return f"{target}?{urlencode(given, doseq=True)}" if given else target


def _good(answer: Answer) -> Any:
    assert answer.status in (200, 201, 202), f"{answer.status} {answer.body.decode()[:1000]}"
    return answer.json


@pytest.fixture(scope="session")
def services(database: Database) -> Services:
    """No other process writes to this database, so what `can()` keeps may be trusted without looking: whatever a story does,
    the next answer must know of it."""
    services = build_services(database, Settings(), SystemClock())
    services.bus.lease.until = FOR_NOW
    return services


@pytest.fixture(scope="session")
def client(services: Services) -> Client:
    """A client of the whole application."""
    return Client(build_app(services))


async def open_world(client: Client, services: Services, mode: Mode = Mode.TEST) -> World:
    """A new organization with nothing in it but what every organization has."""

    async def make(tx: Any) -> tuple[Any, str, str]:
        return await open_organization(tx, name="Merchant", mode=mode, now=services.clock.now())

    organization, secret, publishable = await services.database.run(make)
    return World(client, services, organization.id, secret, publishable)


@asynccontextmanager
async def watched_world(client: Client, services: Services, mode: Mode = Mode.TEST) -> AsyncIterator[World]:
    """A world in which, when it is over, every commit has told whose rights it may have changed, and what this process still
    keeps of customers is what is stored."""
    world = await open_world(client, services, mode)
    yield world
    async with world.database.transaction() as tx:
        forgotten = await announced.unannounced(tx, world.org_id)
        assert not forgotten, forgotten
        stale = await announced.stale(tx, services.snapshots, world.org_id)
        assert not stale, stale


@pytest.fixture
async def world(client: Client, services: Services) -> AsyncIterator[World]:
    async with watched_world(client, services) as world:
        yield world


@pytest.fixture
async def other_world(client: Client, services: Services) -> AsyncIterator[World]:
    """Another tenant of the same server."""
    async with watched_world(client, services) as world:
        yield world


@pytest.fixture
async def live_world(client: Client, services: Services) -> AsyncIterator[World]:
    """An organization in live mode, on real time."""
    async with watched_world(client, services, Mode.LIVE) as world:
        yield world


async def audit(world: World) -> None:
    """X00: fails with what is wrong in the organization's books; run it when the dust has settled."""
    async with world.database.snapshot() as tx:
        report = await run_audit(tx, real_now=world.services.clock.now(), org_id=world.org_id)
    faults = {one.check.name: one.findings[:3] for one in report.checked if one.findings_count}
    assert not faults, faults
