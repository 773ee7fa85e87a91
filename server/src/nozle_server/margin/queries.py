"""The margin reports of contract 1.24."""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.core.errors import InvalidInput
from nozle_server.core.money import is_currency
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.margin import report, store
from nozle_server.margin.model import CostRow, Figures, Range, RevenueRow
from nozle_server.margin.report import Granularity
from nozle_server.margin.revenue import revenue

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class MarginData:
    """Everything the reports of one range are made from. Amounts are cents of `currency`."""

    org_id: UUID
    within: Range
    currency: str
    revenue: list[RevenueRow]
    costs: list[CostRow]


async def gather(
    tx: Tx, seams: Seams, *, org_id: UUID, within: Range, currency: str | None, now: datetime
) -> MarginData:
    """Read revenue and cost of a range; `currency` None: the organization's."""
    if currency is not None and not is_currency(currency):
        raise InvalidInput("currency is not an ISO 4217 code", details={"currency": ["value_is_invalid"]})
    currency = currency or await store.default_currency(tx, org_id)
    earned = await revenue(tx, seams, org_id=org_id, within=within, currency=currency, now=now)
    return MarginData(
        org_id, within, currency, earned, await store.costs(tx, org_id, within, currency=currency)
    )


def summary(data: MarginData) -> Row:
    """One row over everything."""
    figures = report.group(data.revenue, data.costs, lambda _: "all", lambda _: "all").get("all", Figures())
    money = report.money(figures)
    customers = {row.customer_id for row in data.revenue} | {
        row.customer_id for row in data.costs if row.customer_id
    }
    return {
        "currency": data.currency,
        "total_revenue_cents": money["revenue_cents"],
        "usage_revenue_cents": money["usage_revenue_cents"],
        "subscription_revenue_cents": money["subscription_revenue_cents"],
        "total_cost_cents": money["cost_cents"],
        "total_margin_cents": money["margin_cents"],
        "margin_percent": money["margin_percent"],
        "margin": money["margin"],
        "events_count": figures.events_count,
        "uncosted_events_count": figures.uncosted_events_count,
        "customers_count": len(customers),
    }


async def customers(tx: Tx, data: MarginData) -> list[Row]:
    """A row a customer; events that matched no customer stand under customer_id null."""
    groups = report.group(
        data.revenue, data.costs, lambda row: row.customer_id, lambda row: row.customer_id or "unmatched"
    )
    names = await store.names(tx, data.org_id, "customers", [key for key in groups if isinstance(key, UUID)])
    rows: list[Row] = []
    for key, figures in groups.items():
        external_id, name = names[key] if isinstance(key, UUID) else (None, None)
        rows.append(
            {
                "customer_id": external_id,
                "customer": external_id,
                "customer_name": name,
                **report.money(figures),
            }
        )
    return report.by_revenue(rows, key="customer_id")


async def metrics(tx: Tx, data: MarginData) -> list[Row]:
    """A row a billable metric; revenue is usage only."""
    groups = report.group(data.revenue, data.costs, lambda row: row.metric_code, lambda row: row.metric_code)
    names = await store.metric_names(tx, data.org_id)
    rows = [
        {
            "metric_code": code,
            "metric_name": names.get(str(code)),
            "units": figures.units,
            **report.money(figures),
        }
        for code, figures in groups.items()
    ]
    return report.by_revenue(rows, key="metric_code")


async def plans(tx: Tx, data: MarginData) -> list[Row]:
    """A row a plan."""
    groups = report.group(data.revenue, data.costs, lambda row: row.plan_id, lambda row: row.plan_id)
    customers_of: dict[Hashable, set[UUID]] = {}
    pairs = [(one.plan_id, one.customer_id) for one in data.revenue]
    for plan_id, customer_id in (*pairs, *((one.plan_id, one.customer_id) for one in data.costs)):
        if customer_id:
            customers_of.setdefault(plan_id, set()).add(customer_id)
    names = await store.names(tx, data.org_id, "plans", [key for key in groups if isinstance(key, UUID)])
    rows: list[Row] = []
    for key, figures in groups.items():
        assert isinstance(key, UUID)
        code, name = names[key]
        count = len(customers_of.get(key, ()))
        rows.append({"plan_code": code, "plan_name": name, "customers_count": count, **report.money(figures)})
    return report.by_revenue(rows, key="plan_code")


def models(data: MarginData) -> list[Row]:
    """A row an AI model; events without `properties.model` stand under "unknown". Revenue is usage only."""
    groups = report.group(
        data.revenue, data.costs, lambda row: row.model if row.metric_code else None, lambda row: row.model
    )
    rows: list[Row] = [
        {
            "model": model,
            "provider": provider_of(str(model)),
            "input_tokens": figures.input_tokens,
            "output_tokens": figures.output_tokens,
            **report.money(figures),
        }
        for model, figures in groups.items()
    ]
    return report.by_revenue(rows, key="model")


async def trend(tx: Tx, data: MarginData, granularity: Granularity, now: datetime) -> tuple[list[Row], Range]:
    """A row a bucket, empty ones included, and the range they cover: what was not bounded runs from the first
    activity to now, or to the last event that came ahead of its time."""
    start = data.within.start or await store.first_activity(tx, data.org_id) or now
    instants = [row.at for row in data.revenue] + [row.at for row in data.costs]
    latest = max(instants, default=now)
    end = data.within.end or max(now, latest) + timedelta(microseconds=1)
    groups = report.group(
        data.revenue,
        data.costs,
        lambda row: report.bucket_start(row.at, granularity),
        lambda row: report.bucket_start(row.at, granularity),
    )
    points: list[Row] = []
    for at in report.buckets(start, max(end, start), granularity):
        money = report.money(groups.pop(at, Figures()))
        points.append({"period": at, **money})
    return points, Range(start, end)


_PROVIDERS = (
    (("gpt", "o1", "o3", "o4", "chatgpt", "text-embedding", "davinci"), "openai"),
    (("claude",), "anthropic"),
    (("gemini",), "google"),
    (("mistral", "mixtral", "codestral"), "mistral"),
    (("llama",), "meta"),
    (("deepseek",), "deepseek"),
    (("command",), "cohere"),
    (("grok",), "xai"),
)


def provider_of(model: str) -> str | None:
    """Who makes a model, by the beginning of its name; None when the name does not tell."""
    name = model.lower().rpartition("/")[2]
    return next((provider for starts, provider in _PROVIDERS if name.startswith(starts)), None)
