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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from nozle_server.api.app import Application, build_app
from nozle_server.bootstrap import Services, build_services
from nozle_server.core.clock import SystemClock
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

    async def a_cost_model(self, *, metric: str = "tokens", name: str = "cost", **more: object) -> str:
        made = await self.post("/api/v1/cost-models", {"name": name, "metric_code": metric, **more})
        assert isinstance(made["id"], str)
        return made["id"]

    async def settings(self, **settings: object) -> None:
        """Settings of the organization that have no endpoint yet."""
        async with self.database.transaction() as tx:
            await update_organization(tx, org_id=self.org_id, settings=settings)
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
        """Rows straight from the database; `$1` is the organization."""
        async with self.database.connection() as connection:
            return list(await connection.fetch(sql, self.org_id, *values))


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
    return build_services(database, Settings(), SystemClock())


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


@pytest.fixture
async def world(client: Client, services: Services) -> World:
    return await open_world(client, services)


@pytest.fixture
async def other_world(client: Client, services: Services) -> World:
    """Another tenant of the same server."""
    return await open_world(client, services)


@pytest.fixture
async def live_world(client: Client, services: Services) -> World:
    """An organization in live mode, on real time."""
    return await open_world(client, services, Mode.LIVE)


# The auditor (reliability.md, X00): every query finds what must not be.
_FAULTS = {
    "balance is not the sum of the entries": """
        select a.id from credit_accounts a left join ledger_entries e on e.org_id = a.org_id and e.account_id = a.id
        where a.org_id = $1 group by a.org_id, a.id having a.balance <> coalesce(sum(e.amount), 0)""",
    "balance is not the sum of what is left of the grants": """
        select a.id from credit_accounts a left join credit_grants g on g.org_id = a.org_id and g.account_id = a.id
        where a.org_id = $1 group by a.org_id, a.id having a.balance <> coalesce(sum(g.remaining), 0)""",
    "a balance is negative": "select id from credit_accounts where org_id = $1 and balance < 0",
    "what is left of a grant is not the sum of its allocations": """
        select g.id from credit_grants g left join ledger_allocations l on l.org_id = g.org_id and l.grant_id = g.id
        where g.org_id = $1 group by g.org_id, g.id having g.remaining <> coalesce(sum(l.amount), 0)""",
    "an entry is not the sum of its allocations": """
        select e.id from ledger_entries e left join ledger_allocations l on l.org_id = e.org_id and l.entry_id = e.id
        where e.org_id = $1 group by e.org_id, e.id having e.amount <> coalesce(sum(l.amount), 0)""",
    "balances after the entries are not a running sum": """
        select id from (select id, balance_after, sum(amount) over (partition by account_id order by sequence) as running,
            sequence, row_number() over (partition by account_id order by sequence) as place
            from ledger_entries where org_id = $1) e where balance_after <> running or sequence <> place""",
    "an entry was not announced exactly once": """
        select e.id from ledger_entries e left join outbox o on o.org_id = e.org_id
            and o.kind ~ '^(credits|money)[.](granted|deducted|expired|voided)$'
            and o.payload ->> 'entry_id' = e.id::text
        where e.org_id = $1 group by e.org_id, e.id having count(o.id) <> 1""",
    "an announced entry does not exist": """
        select o.id from outbox o where o.org_id = $1 and (o.kind like 'credits.%' or o.kind like 'money.%')
            and not exists (select 1 from ledger_entries e
                where e.org_id = o.org_id and e.id::text = o.payload ->> 'entry_id')""",
    "a wallet's account is not one of money, or one of money has no wallet": """
        select coalesce(w.id, a.id) from wallets w full join (select * from credit_accounts where kind = 'money') a
            on a.org_id = w.org_id and a.id = w.account_id and a.customer_id = w.customer_id
        where coalesce(w.org_id, a.org_id) = $1 and (w.id is null or a.id is null)""",
    "a wallet's transactions are not the entries of its account": """
        select e.id from wallets w join ledger_entries e on e.org_id = w.org_id and e.account_id = w.account_id
            full join (select * from wallet_transactions where org_id = $1 and status = 'settled') t
            on t.org_id = e.org_id and t.entry_id = e.id and t.wallet_id = w.id
                and t.amount * case t.transaction_type when 'inbound' then 1 else -1 end = e.amount
        where coalesce(w.org_id, t.org_id) = $1 and (e.id is null or t.id is null and e.type <> 'expire')""",
    "what a wallet consumed is not what its transactions took": """
        select w.id from wallets w left join wallet_transactions t on t.org_id = w.org_id and t.wallet_id = w.id
            and t.status = 'settled'
        where w.org_id = $1 group by w.org_id, w.id having w.consumed_amount <> coalesce(sum(t.amount)
            filter (where t.transaction_type = 'outbound'), 0) - coalesce(sum(t.amount)
            filter (where t.voided_invoice_id is not null), 0)""",
    "an invoice's fees and taxes are not the sums of its lines": """
        select i.id from invoices i left join invoice_lines l on l.org_id = i.org_id and l.invoice_id = i.id
        where i.org_id = $1 and i.status in ('draft', 'finalized', 'voided') group by i.org_id, i.id
        having i.fees_amount_cents <> coalesce(sum(l.amount_cents), 0)
            or i.taxes_amount_cents <> coalesce(sum(l.taxes_amount_cents), 0)""",
    "an invoice was not reduced by its credits": """
        select i.id from invoices i left join invoice_credits c on c.org_id = i.org_id and c.invoice_id = i.id
        where i.org_id = $1 and i.status in ('draft', 'finalized', 'voided') group by i.org_id, i.id
        having i.coupons_amount_cents + i.progressive_billing_credit_amount_cents + i.credit_notes_amount_cents
            + i.prepaid_credit_amount_cents <> coalesce(sum(c.amount_cents), 0)""",
    "an invoice's total does not follow from its parts": """
        select id from invoices where org_id = $1 and total_amount_cents <> fees_amount_cents - coupons_amount_cents
            - progressive_billing_credit_amount_cents + taxes_amount_cents - credit_notes_amount_cents
            - prepaid_credit_amount_cents""",
    "an event was charged in advance more than once by a charge": """
        select event_transaction_id from invoice_lines where org_id = $1 and event_transaction_id is not null
        group by subscription_id, charge_id, event_transaction_id having count(*) > 1""",
    "a fee in advance has no event": """
        select l.id from invoice_lines l where l.org_id = $1 and l.event_transaction_id is not null and not exists (
            select 1 from event_ids e where e.org_id = l.org_id and e.transaction_id = l.event_transaction_id)""",
    "a progressive credit is more than the progressive invoices of its period charged": """
        select c.id from invoice_credits c
        join invoices i on i.org_id = c.org_id and i.id = c.invoice_id and i.status in ('draft', 'finalized')
        join invoices p on p.org_id = c.org_id and p.id = c.source_id
        where c.org_id = $1 and c.kind = 'progressive_billing'
            and (p.invoice_type <> 'progressive_billing' or c.amount_cents > p.fees_amount_cents)""",
    "invoice numbers have a gap": """
        select sequential_id from (select sequential_id, row_number() over (order by sequential_id) as place
            from invoices where org_id = $1 and sequential_id is not null) i where sequential_id <> place""",
    "an event is stored twice, or its id is not claimed by it": """
        select e.transaction_id from events e left join event_ids i on i.org_id = e.org_id
            and i.transaction_id = e.transaction_id and i.event_id = e.id and i.occurred_at = e.occurred_at
        where e.org_id = $1 group by e.transaction_id having count(*) <> 1 or count(i.event_id) <> 1""",
    "a claimed id has no event": """
        select i.transaction_id from event_ids i where i.org_id = $1 and not exists (select 1 from events e
            where e.org_id = i.org_id and e.occurred_at = i.occurred_at and e.id = i.event_id)""",
    "events on an invoice are not the events of its period": """
        select l.subscription_id, l.metric_id, l.period_start from invoice_lines l
        where l.org_id = $1 and l.kind = 'charge' and not l.pay_in_advance and l.adjusts_invoice_id is null
            and l.true_up_of is null and not exists (select 1 from invoices i where i.org_id = l.org_id
                and i.id = l.invoice_id and (i.invoice_type = 'progressive_billing' or i.status = 'draft'))
        group by l.org_id, l.invoice_id, l.subscription_id, l.charge_id, l.metric_id, l.period_start, l.period_end
        having sum(l.events_count) <> (select count(*) from events e where e.org_id = l.org_id and e.status = 'counted'
            and e.subscription_id = l.subscription_id and e.metric_id = l.metric_id
            and e.occurred_at >= l.period_start and e.occurred_at < l.period_end)""",
    "a counter's events are not those counted": """
        select coalesce(c.subscription_id, e.subscription_id) from
            (select subscription_id, metric_id, sum(events_count) as n from usage_counters u where org_id = $1
                and not (select m.recurring from billable_metrics m where m.org_id = $1 and m.id = u.metric_id)
                group by 1, 2) c
            full join (select subscription_id, metric_id, count(*) as n from events v
                where org_id = $1 and status = 'counted'
                and not (select m.recurring from billable_metrics m where m.org_id = $1 and m.id = v.metric_id)
                group by 1, 2) e using (subscription_id, metric_id)
        where coalesce(c.n, 0) <> coalesce(e.n, 0)""",
    "a carried-over counter's events are not all there are": """
        select m.id from billable_metrics m where m.org_id = $1 and m.recurring
        and (select coalesce(sum(events_count), 0) from usage_counters u where u.org_id = $1 and u.metric_id = m.id)
            <> (select count(*) from events e where e.org_id = $1 and e.metric_id = m.id
                and e.status in ('counted', 'late'))""",
    "what is paid of an invoice is not the sum of its payments": """
        select i.id from invoices i left join payments p on p.org_id = i.org_id and p.invoice_id = i.id
            and p.payment_status = 'succeeded'
        where i.org_id = $1 group by i.org_id, i.id having i.total_paid_amount_cents <> coalesce(sum(p.amount_cents), 0)""",
    "credit notes take back more than their invoice": """
        select i.id from invoices i join credit_notes n on n.org_id = i.org_id and n.invoice_id = i.id
        where i.org_id = $1 group by i.org_id, i.id
        having sum(n.total_amount_cents) > i.sub_total_including_taxes_amount_cents
            or sum(n.taxes_amount_cents) > i.taxes_amount_cents
            or sum(n.refund_amount_cents) > i.total_paid_amount_cents
            or sum(n.offset_amount_cents) > i.total_amount_cents - i.total_paid_amount_cents""",
    "a credit note is not the sum of its items, less coupons, with taxes": """
        select n.id from credit_notes n left join credit_note_items x on x.org_id = n.org_id and x.credit_note_id = n.id
        where n.org_id = $1 group by n.org_id, n.id
        having n.total_amount_cents <> coalesce(sum(x.amount_cents), 0) - n.coupons_adjustment_amount_cents
            + n.taxes_amount_cents""",
    "more is taken back of a fee than it came to": """
        select l.id from invoice_lines l join credit_note_items x on x.org_id = l.org_id and x.line_id = l.id
        where l.org_id = $1 group by l.org_id, l.id having sum(x.amount_cents) > l.amount_cents""",
    "what is left of a credit note is not what invoices left of it": """
        select n.id from credit_notes n where n.org_id = $1 and n.credit_status is distinct from 'voided'
            and n.balance_amount_cents <> n.credit_amount_cents - coalesce((select sum(c.amount_cents)
                from invoice_credits c join invoices i on i.org_id = c.org_id and i.id = c.invoice_id
                where c.org_id = n.org_id and c.source_id = n.id and c.kind = 'credit_note' and (i.status <> 'voided'
                    or exists (select 1 from credit_notes v where v.org_id = i.org_id and v.invoice_id = i.id
                        and (v.credit_status is distinct from 'voided'
                            or v.description like 'Credit note created due to voided invoice %')))), 0)""",
    "credit note numbers have a gap": """
        select id from (select id, sequential_id, row_number() over (partition by invoice_id order by sequential_id) as place
            from credit_notes where org_id = $1) n where sequential_id <> place""",
    "something is in another tenant's hands": """
        select s.id from subscriptions s where s.org_id = $1 and not exists (select 1 from customers c
            where c.org_id = s.org_id and c.id = s.customer_id)
        union all select e.id from events e where e.org_id = $1 and e.subscription_id is not null and not exists (
            select 1 from subscriptions s where s.org_id = e.org_id and s.id = e.subscription_id)""",
}


async def audit(world: World) -> None:
    """Fails with what is wrong in the organization's books; run it when the dust has settled."""
    faults = {}
    for fault, sql in _FAULTS.items():
        if rows := await world.fetch(sql):
            faults[fault] = [tuple(row) for row in rows[:3]]
    assert not faults, faults
