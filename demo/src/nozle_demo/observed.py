"""What the server says after the period has ended: ledgers, invoices, margin."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from nozle_demo.client import Api, segment
from nozle_demo.clock import from_instant, to_instant
from nozle_demo.closing import Closing, Reading
from nozle_demo.exact import Json, decimal
from nozle_demo.stage import Period

GRANT, DEDUCT, EXPIRE = "grant", "deduct", "expire"
_TAKES = frozenset({DEDUCT, EXPIRE})
_PAGE = 100


@dataclass(frozen=True)
class Entry:
    """One movement of credits; `amount` is signed here (the API sends it positive)."""

    kind: str
    amount: Decimal
    at: datetime


@dataclass(frozen=True)
class Line:
    kind: str
    description: str
    units: Decimal
    exact_cents: Decimal
    amount_cents: int


@dataclass(frozen=True)
class Invoice:
    number: str
    status: str
    currency: str
    period_start: str
    period_end: str
    issued_on: str
    total_cents: int
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class MarginRow:
    """Money of one customer, one model, or all; `subscription_cents` is 0 in rows of models."""

    label: str
    revenue_cents: Decimal
    usage_cents: Decimal
    subscription_cents: Decimal
    cost_cents: Decimal
    margin_cents: Decimal
    margin_percent: Decimal | None
    events_count: int
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Observed:
    """By external id or model; `strangers` have margin, but the demonstration did not make them."""

    balances: dict[str, Decimal]
    ledgers: dict[str, tuple[Entry, ...]]
    invoices: dict[str, Invoice]
    margin: MarginRow
    margin_by_customer: dict[str, MarginRow]
    margin_by_model: dict[str, MarginRow]
    strangers: tuple[str, ...]


async def read_observed(api: Api, closing: Closing) -> Observed:
    """Read everything that the report and the identities need."""
    ids = list(closing.readings)
    balances = await asyncio.gather(*(_read_balance(api, external_id) for external_id in ids))
    ledgers = await asyncio.gather(*(_read_ledger(api, external_id) for external_id in ids))
    invoices = await asyncio.gather(*(_read_invoice(api, *item) for item in closing.readings.items()))
    summary, customers, models = await _read_margin(api, closing.period)
    return Observed(
        balances=dict(zip(ids, balances, strict=True)),
        ledgers=dict(zip(ids, ledgers, strict=True)),
        invoices={
            external_id: invoice for external_id, invoice in zip(ids, invoices, strict=True) if invoice
        },
        margin=summary,
        margin_by_customer={row.label: row for row in customers if row.label in closing.readings},
        margin_by_model={row.label: row for row in models},
        strangers=tuple(row.label for row in customers if row.label not in closing.readings),
    )


async def _read_balance(api: Api, external_id: str) -> Decimal:
    return decimal((await api.get(f"/api/v1/credits/{segment(external_id)}/balance"))["balance"])


async def _read_ledger(api: Api, external_id: str) -> tuple[Entry, ...]:
    """All entries, newest first, page by page."""
    path = f"/api/v1/credits/{segment(external_id)}/transactions?limit={_PAGE}"
    entries: list[Entry] = []
    cursor: str | None = None
    while True:
        page = await api.get(path if cursor is None else f"{path}&cursor={segment(cursor)}")
        entries += [_to_entry(item) for item in page["transactions"]]
        cursor = page.get("next_cursor")
        if cursor is None:
            return tuple(entries)


def _to_entry(item: Json) -> Entry:
    amount, kind = decimal(item["amount"]), str(item["type"])
    return Entry(kind, -amount if kind in _TAKES else amount, from_instant(item["created_at"]))


async def _read_invoice(api: Api, external_id: str, reading: Reading) -> Invoice | None:
    """The invoice of the period that was played; None when there is none (a free plan may have none)."""
    listed = (await api.get(f"/api/v1/invoices?customer_id={segment(external_id)}"))["invoices"]
    for item in listed:
        if _same_day(item["period_start"], reading.period.start):
            return _to_invoice(item)
    return None


def _same_day(text: str, instant: datetime) -> bool:
    """Bounds may be sent as dates or as instants."""
    return text[:10] == to_instant(instant)[:10]


def _to_invoice(item: Json) -> Invoice:
    lines = tuple(
        Line(
            str(line["kind"]),
            str(line["description"]),
            decimal(line["units"]),
            decimal(line["exact_amount_cents"]),
            int(line["amount_cents"]),
        )
        for line in item["lines"]
    )
    return Invoice(
        str(item["number"]),
        str(item["status"]),
        str(item["currency"]),
        str(item["period_start"]),
        str(item["period_end"]),
        str(item["issuing_date"]),
        int(item["total_amount_cents"]),
        lines,
    )


async def _read_margin(api: Api, period: Period) -> tuple[MarginRow, list[MarginRow], list[MarginRow]]:
    span = f"?from={to_instant(period.start)}&to={to_instant(period.end)}"
    summary, customers, models = await asyncio.gather(
        api.get(f"/api/v1/margin/summary{span}"),
        api.get(f"/api/v1/margin/customers{span}"),
        api.get(f"/api/v1/margin/models{span}"),
    )
    total = MarginRow(
        "all",
        decimal(summary["total_revenue_cents"]),
        decimal(summary["usage_revenue_cents"]),
        decimal(summary["subscription_revenue_cents"]),
        decimal(summary["total_cost_cents"]),
        decimal(summary["total_margin_cents"]),
        _percent(summary["margin_percent"]),
        int(summary["events_count"]),
    )
    return (
        total,
        [_to_margin_row(str(row["customer_id"]), row) for row in customers],
        [_to_margin_row(str(row["model"]), row) for row in models],
    )


def _to_margin_row(label: str, row: Json) -> MarginRow:
    revenue = decimal(row["revenue_cents"])
    return MarginRow(
        label,
        revenue,
        decimal(row.get("usage_revenue_cents", revenue)),
        decimal(row.get("subscription_revenue_cents") or 0),
        decimal(row["cost_cents"]),
        decimal(row["margin_cents"]),
        _percent(row["margin_percent"]),
        int(row["events_count"]),
        int(row.get("input_tokens", 0)),
        int(row.get("output_tokens", 0)),
    )


def _percent(value: Any) -> Decimal | None:
    return None if value is None else decimal(value)
