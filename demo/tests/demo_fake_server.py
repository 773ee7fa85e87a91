"""A small server of our own for tests of the demonstration: in memory, exact, honest unless told otherwise.

`faults` makes it lie in one way each, so that a test can see an identity fail. `fail_next` decides call by
call whether the connection is cut before the call has taken effect, or after, or the server says it is busy.
`python demo_fake_server.py PORT` serves it by itself, for measuring what the client costs.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from nozle_demo import exact

KEY = "sk_test_fake"
LIMIT = 100_000
CREDITS = Decimal(400)
FEES = {"free": 0, "pro": 4900, "scale": 49900}
RATES = {
    "gpt-4o": {"input": 250, "output": 1000},
    "gpt-4o-mini": {"input": 15, "output": 60},
    "claude-sonnet-4": {"input": 300, "output": 1500},
}


def _ranges(*rows: tuple[int, int | None, str]) -> list[dict[str, Any]]:
    return [
        {"from_value": first, "to_value": last, "per_unit_amount": price, "flat_amount": "0"}
        for first, last, price in rows
    ]


GRADUATED = _ranges((0, 100_000, "0.00002"), (100_001, 500_000, "0.000015"), (500_001, None, "0.00001"))
VOLUME = _ranges((0, 500_000, "0.000012"), (500_001, 2_000_000, "0.000009"), (2_000_001, None, "0.000007"))


def plan(code: str) -> dict[str, Any]:
    """A plan as `GET /core/api/v1/plans/{code}` shows it."""
    charges: dict[str, dict[str, Any]] = {
        "free": {"charge_model": "standard", "properties": {"amount": "0"}, "filters": []},
        "pro": {
            "charge_model": "graduated",
            "properties": {"graduated_ranges": GRADUATED},
            "filters": [
                {
                    "values": {"paid_by": ["credits"]},
                    "properties": {"graduated_ranges": _ranges((0, None, "0"))},
                    "invoice_display_name": "Tokens paid by credits",
                }
            ],
        },
        "scale": {"charge_model": "volume", "properties": {"volume_ranges": VOLUME}, "filters": []},
    }
    limit = {"code": "limit", "value": LIMIT if code == "free" else None}
    return {
        "code": code,
        "name": code.title(),
        "interval": "monthly",
        "amount_cents": FEES[code],
        "amount_currency": "USD",
        "credits": CREDITS if code == "pro" else 0,
        "charges": [{"billable_metric_code": "llm_tokens", **charges[code]}],
        "entitlements": [{"code": "chat", "privileges": [limit, {"code": "overage", "value": False}]}],
    }


@dataclass
class FakeCustomer:
    plan: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    used: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    invoices: list[dict[str, Any]] = field(default_factory=list)

    @property
    def balance(self) -> Decimal:
        return Decimal(self.entries[-1]["balance_after"]) if self.entries else Decimal(0)

    def move(self, kind: str, amount: Decimal, at: datetime) -> None:
        after = self.balance + (amount if kind == "grant" else -amount)
        self.entries.append({"type": kind, "amount": amount, "created_at": show(at), "balance_after": after})


class FakeServer:
    """State and routes. `log` keeps method and path of every call that came."""

    def __init__(self) -> None:
        self.url = ""
        self.now: datetime | None = None
        self.customers: dict[str, FakeCustomer] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.deductions: dict[str, dict[str, Any]] = {}
        self.faults: set[str] = set()
        self.log: list[str] = []
        self.fail_next: Callable[[str, bytes], str] = lambda _request, _body: ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        line = f"{request.method} {request.raw_path}"
        self.log.append(line)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "invalid api key"}, status=401)
        failing = self.fail_next(line, body)
        if failing == "before":
            self._cut(request)
        status, answer, headers = self.answer(request, body)
        if failing == "after":
            self._cut(request)
        if failing == "busy":
            return web.json_response({"error": "busy"}, status=503, headers={"Retry-After": "0"})
        return web.Response(
            body=exact.dumps(answer).encode(), status=status, headers=headers, content_type="application/json"
        )

    def _cut(self, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()
        raise asyncio.CancelledError

    def answer(self, request: web.Request, raw: bytes) -> tuple[int, Any, dict[str, str]]:
        body = json.loads(raw, parse_float=Decimal) if raw else {}
        path = unquote(request.path).removeprefix("/api/v1")
        query = request.query
        match request.method, path.strip("/").split("/"):
            case "POST", ["events"]:
                return self.record(body)
            case "GET", ["can"]:
                return 200, self.can(self.customers[query["customer_id"]]), {}
            case "POST", ["check-and-deduct"]:
                return 200, self.deduct(body, request.headers["Idempotency-Key"]), {}
            case "POST", ["test-clock"]:
                return self.turn(datetime.fromisoformat(body["now"]))
            case "GET", ["test-clock"]:
                return 200, {"now": show(self.now) if self.now else None}, {}
            case "GET", ["core", "api", "v1", "events", transaction_id]:
                event = self.events.get(transaction_id)
                return (200, {"event": event}, {}) if event else (404, {"status": 404}, {})
            case "POST", ["customers"]:
                self.customers.setdefault(body["external_id"], FakeCustomer())
                return 200, body, {}
            case "POST", ["subscribe"]:
                return 200, self.subscribe(self.customers[body["customer_id"]], body["plan_code"]), {}
            case "GET", ["plans"]:
                return 200, [{"code": code} for code in FEES], {}
            case "GET", ["core", "api", "v1", "plans", code]:
                return 200, {"plan": plan(code)}, {}
            case "GET", ["cost-models"]:
                return (
                    200,
                    [{"cost_type": "per_model", "metric_code": "llm_tokens", "model_rates": RATES}],
                    {},
                )
            case "GET", ["billing", "status"]:
                customer = self.customers[query["customer_id"]]
                bounds = (customer.start, customer.end)
                names = ("current_period_start", "current_period_end")
                shown = {name: show(at) for name, at in zip(names, bounds, strict=True) if at}
                return 200, {"plan_code": customer.plan, **shown}, {}
            case "GET", ["credits", external_id, "balance"]:
                return 200, {"balance": self.balance(self.customers[external_id])}, {}
            case "GET", ["credits", external_id, "transactions"]:
                offset = int(query.get("cursor", 0))
                newest = self.ledger(self.customers[external_id])[offset : offset + int(query["limit"])]
                cursor = str(offset + len(newest)) if len(newest) == int(query["limit"]) else None
                return 200, {"transactions": newest, "next_cursor": cursor}, {}
            case "GET", ["invoices"]:
                return 200, {"invoices": self.customers[query["customer_id"]].invoices, "meta": {}}, {}
            case "GET", ["margin", view]:
                return 200, self.margin(view, at(query["from"]), at(query["to"])), {}
        return 404, {"error": f"no route {request.method} {path}"}, {}

    def turn(self, now: datetime) -> tuple[int, Any, dict[str, str]]:
        if self.now is not None and now < self.now:
            return 422, {"error": "the clock only goes forward"}, {}
        self.now = now
        for number, customer in enumerate(self.customers.values(), start=1):
            if customer.end is not None and customer.end <= now:
                customer.invoices.insert(0, self.invoice(number, customer))
                if customer.balance and "no_expiry" not in self.faults:
                    customer.move("expire", customer.balance, customer.end)
                customer.start, customer.end = customer.end, customer.end + timedelta(days=31)
                customer.used = 0
                if customer.plan == "pro":
                    customer.move("grant", CREDITS, customer.start)
        return 200, {"now": show(now)}, {}

    def subscribe(self, customer: FakeCustomer, code: str) -> Any:
        assert self.now is not None
        if customer.plan is None:
            customer.plan, customer.start, customer.end = code, self.now, self.now + timedelta(days=30)
            if code == "pro":
                customer.move("grant", CREDITS + ("grant_off" in self.faults), self.now)
        return {"subscription_id": "sub_1", "status": "active"}

    def can(self, customer: FakeCustomer) -> Any:
        limit = LIMIT + 60_000 * ("limit_off" in self.faults) if customer.plan == "free" else None
        allowed = limit is None or customer.used < limit
        reason = "unlimited" if limit is None else "within_limit" if allowed else "limit_exceeded"
        used = customer.used + ("used_off" in self.faults and customer.plan == "scale")
        return {"allowed": allowed, "reason": reason, "used": used, "limit": limit}

    def deduct(self, body: dict[str, Any], key: str) -> Any:
        customer, credits = self.customers[body["customer_id"]], Decimal(body["credits"])
        if key not in self.deductions:
            assert self.now is not None
            allowed = customer.balance >= credits
            if "refuses_one" in self.faults and len(self.deductions) == 3:
                allowed = False
            if allowed:
                customer.move("deduct", credits, self.now)
            self.deductions[key] = {"allowed": allowed, "remaining": customer.balance}
        return self.deductions[key]

    def record(self, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        stored = self.events.get(body["transaction_id"])
        if stored is not None:
            same = all(stored[name] == body[name] for name in ("customer_id", "metric_code", "properties"))
            return (200, {"event": stored}, {"Idempotent-Replayed": "true"}) if same else (409, {}, {})
        customer, properties = self.customers[body["customer_id"]], body["properties"]
        self.events[body["transaction_id"]] = body | {"status": "accepted"}
        if not ("loses_one" in self.faults and len(self.events) == 5):
            customer.events.append(body)
            customer.used += properties["input_tokens"] + properties["output_tokens"]
        return 200, {"event": self.events[body["transaction_id"]]}, {}

    def balance(self, customer: FakeCustomer) -> Decimal:
        return customer.balance + ("balance_off" in self.faults and bool(customer.invoices))

    def ledger(self, customer: FakeCustomer) -> list[dict[str, Any]]:
        return list(reversed(customer.entries))

    def usage_lines(self, customer: FakeCustomer) -> list[tuple[str, int, Decimal]]:
        """What was metered, with its exact price in cents, computed unit range by unit range."""
        paid = sum(tokens(event) for event in customer.events if "paid_by" in event["properties"])
        other = sum(tokens(event) for event in customer.events) - paid
        price = Decimal(0)
        for row in GRADUATED if customer.plan == "pro" else VOLUME if customer.plan == "scale" else []:
            first, last = max(row["from_value"], 1), row["to_value"] or 10**12
            units = max(0, min(other, last) - first + 1)
            if customer.plan == "scale":
                units = other if first <= other <= last else 0
            price += units * Decimal(row["per_unit_amount"]) * 100
        if "price_off" in self.faults and price:
            price += Decimal("0.0001")
        lines = [("LLM tokens", other, price)]
        if customer.plan == "pro":
            lines.append(("Tokens paid by credits", paid, Decimal(0)))
        return lines

    def invoice(self, number: int, customer: FakeCustomer) -> dict[str, Any]:
        assert customer.plan is not None
        shift = int("shifts_units" in self.faults and customer.plan == "pro")
        line = {"metric_code": None, "events_count": 0, "period_start": None, "period_end": None}
        fee = FEES[customer.plan]
        lines = [
            {
                **line,
                "kind": "subscription",
                "description": f"{customer.plan} plan",
                "units": 1,
                "exact_amount_cents": fee,
                "amount_cents": fee,
            }
        ]
        for description, units, price in self.usage_lines(customer):
            moved = units and (shift if not price else -shift)
            lines.append(
                {
                    **line,
                    "kind": "charge",
                    "description": description,
                    "units": units + moved + ("units_off" in self.faults and price > 0),
                    "exact_amount_cents": price,
                    "amount_cents": int(settled(price)),
                }
            )
        total = sum(int(each["amount_cents"]) for each in lines) + ("total_off" in self.faults)
        return {
            "id": f"inv_{number}",
            "number": f"INV-{number:03}",
            "status": "open",
            "amount": total,
            "total_amount_cents": total,
            "currency": "USD",
            "issuing_date": show(customer.end)[:10],
            "period_start": show(customer.start),
            "period_end": show(customer.end),
            "lines": lines,
        }

    def margin(self, view: str, start: datetime, end: datetime) -> Any:
        def row(events: list[dict[str, Any]], usage: Decimal, fee: Decimal) -> dict[str, Any]:
            cost = sum((cost_cents(event) for event in events), Decimal(0))
            cost += Decimal("0.000001") * ("cost_off" in self.faults)
            margin = usage + fee - cost + ("margin_off" in self.faults)
            percent = (margin / (usage + fee) * 100).quantize(Decimal("0.01")) if usage + fee else None
            return {
                "revenue_cents": usage + fee,
                "usage_revenue_cents": usage,
                "subscription_revenue_cents": fee,
                "cost_cents": cost,
                "margin_cents": margin,
                "margin_percent": percent,
                "events_count": len(events) + ("count_off" in self.faults),
            }

        def during(customer: FakeCustomer) -> list[dict[str, Any]]:
            return [event for event in customer.events if start <= at(event["timestamp"]) < end]

        by_customer = {}
        for external_id, customer in self.customers.items():
            usage = sum((settled(price) for _, _, price in self.usage_lines(customer)), Decimal(0))
            usage += Decimal("0.000000000001") * ("revenue_off" in self.faults)
            by_customer[external_id] = row(during(customer), usage, Decimal(FEES[customer.plan or "free"]))
        if view == "customers":
            return [{"customer_id": external_id, **fields} for external_id, fields in by_customer.items()]
        everything = [event for customer in self.customers.values() for event in during(customer)]
        if view == "models":
            models = sorted({event["properties"]["model"] for event in everything})
            # All usage revenue on the first model: how it is shared out is not what the demonstration checks.
            usage = sum((fields["usage_revenue_cents"] for fields in by_customer.values()), Decimal(0))
            shares = [usage, *[Decimal(0)] * len(models)]
            return [
                self.model_row(model, everything, share, row)
                for model, share in zip(models, shares, strict=False)
            ]
        names = ("revenue_cents", "cost_cents", "margin_cents")
        totals = {f"total_{name}": sum(fields[name] for fields in by_customer.values()) for name in names}
        parts = ("usage_revenue_cents", "subscription_revenue_cents", "events_count")
        totals |= {name: sum(fields[name] for fields in by_customer.values()) for name in parts}
        return {"margin_percent": None, "margin": None, "customers_count": len(by_customer), **totals}

    def model_row(
        self, model: str, events: list[dict[str, Any]], usage: Decimal, row: Callable[..., Any]
    ) -> dict[str, Any]:
        mine = [event for event in events if event["properties"]["model"] == model]
        counts = {
            name: sum(event["properties"][name] for event in mine)
            for name in ("input_tokens", "output_tokens")
        }
        return {"model": model, **counts, **row(mine, usage, Decimal(0))}


def tokens(event: dict[str, Any]) -> int:
    return int(event["properties"]["input_tokens"] + event["properties"]["output_tokens"])


def settled(exact_cents: Decimal) -> Decimal:
    return exact_cents.quantize(Decimal(1), ROUND_HALF_UP)


def cost_cents(event: dict[str, Any]) -> Decimal:
    properties = event["properties"]
    rate = RATES[properties["model"]]
    sent, got = properties["input_tokens"] * rate["input"], properties["output_tokens"] * rate["output"]
    return Decimal(sent + got) / 1_000_000


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def show(instant: datetime | None) -> str:
    assert instant is not None
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def application(server: FakeServer) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    return app


@asynccontextmanager
async def serving(server: FakeServer, port: int = 0) -> AsyncIterator[FakeServer]:
    runner = web.AppRunner(application(server), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def serve_alone(port: int) -> None:
    async with serving(FakeServer(), port) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve_alone(int(sys.argv[1])))
