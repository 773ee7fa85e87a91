"""Margin: revenue against cost, by customer, metric, plan, model and over time."""

from collections.abc import Awaitable, Callable

import msgspec

from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Scope
from nozle_server.api.instants import read_range
from nozle_server.api.shapes import ANY_OBJECT, INTEGER, NUMBER, STRING, array, optional, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.margin import queries
from nozle_server.margin.model import Range
from nozle_server.margin.queries import MarginData
from nozle_server.margin.report import Granularity


class MarginQuery(msgspec.Struct, rename={"start": "from", "end": "to"}):
    """`from` and `to` are dates, both included, or instants, the second excluded. Without them: everything."""

    start: str | None = None
    end: str | None = None
    currency: str | None = None


class TrendQuery(MarginQuery):
    granularity: str = "day"


_ALIASES = {"from_date": "from", "to_date": "to"}


def _range(query: MarginQuery) -> Range:
    return Range(*read_range(query.start, query.end))


async def _gather(call: Call) -> MarginData:
    query: MarginQuery = call.query
    return await queries.gather(
        call.tx,
        call.services.seams,
        org_id=call.org_id,
        within=_range(query),
        currency=query.currency,
        now=call.now,
    )


async def summary(call: Call) -> object:
    data = await _gather(call)
    return {"from": call.query.start, "to": call.query.end, **queries.summary(data)}


async def customers(call: Call) -> object:
    return await queries.customers(call.tx, await _gather(call))


async def metrics(call: Call) -> object:
    return await queries.metrics(call.tx, await _gather(call))


async def plans(call: Call) -> object:
    return await queries.plans(call.tx, await _gather(call))


async def models(call: Call) -> object:
    return queries.models(await _gather(call))


async def trend(call: Call) -> object:
    try:
        granularity = Granularity(call.query.granularity)
    except ValueError:
        raise InvalidInput(
            "granularity must be hour, day, week or month", details={"granularity": ["value_is_invalid"]}
        ) from None
    points, covered = await queries.trend(call.tx, await _gather(call), granularity, call.now)
    return {"granularity": granularity, "from": covered.start, "to": covered.end, "points": points}


_MONEY = {
    "revenue_cents": NUMBER,
    "cost_cents": NUMBER,
    "margin_cents": NUMBER,
    "margin_percent": optional(NUMBER),
    "margin": optional(NUMBER),
    "events_count": INTEGER,
}
_MONEY_EXAMPLE = {
    "revenue_cents": 12000.5,
    "usage_revenue_cents": 2100.5,
    "subscription_revenue_cents": 9900,
    "cost_cents": 4300,
    "margin_cents": 7700.5,
    "margin_percent": 64.17,
    "margin": 0.6417,
    "events_count": 8123,
}


def _endpoint(
    path: str,
    handler: Callable[[Call], Awaitable[object]],
    summary_text: str,
    schema: dict[str, object],
    example: object,
    query: type[msgspec.Struct] = MarginQuery,
) -> Endpoint:
    return Endpoint(
        method="GET",
        path=f"/margin/{path}",
        handler=handler,
        scope=Scope.SECRET,
        mounts=SEED,
        summary=summary_text,
        description=(
            "Revenue is what was billed, and for the running period what would be billed now; fees are spread by day. Cost is"
            " what each event cost when it came. Amounts are exact cents of one currency: `currency`, else the organization's."
        ),
        tag="Costs and margin",
        query=query,
        query_aliases=_ALIASES,
        reply_schema=schema,
        example=Example(response=example),
        snapshot=True,
    )


ENDPOINTS = (
    _endpoint(
        "summary",
        summary,
        "Margin over everything",
        shape(
            currency=STRING,
            total_revenue_cents=NUMBER,
            total_cost_cents=NUMBER,
            total_margin_cents=NUMBER,
            margin_percent=optional(NUMBER),
            events_count=INTEGER,
            customers_count=INTEGER,
        ),
        {
            "from": "2026-01-01",
            "to": "2026-01-31",
            "currency": "USD",
            "total_revenue_cents": 120000,
            "total_cost_cents": 43000,
            "total_margin_cents": 77000,
            "margin_percent": 64.17,
            "events_count": 81234,
            "customers_count": 12,
        },
    ),
    _endpoint(
        "customers",
        customers,
        "Margin by customer",
        array(shape(customer_id=optional(STRING), **_MONEY)),
        [{"customer_id": "cust_123", "customer": "cust_123", "customer_name": "Acme Corp", **_MONEY_EXAMPLE}],
    ),
    _endpoint(
        "metrics",
        metrics,
        "Margin by billable metric",
        array(shape(metric_code=STRING, units=NUMBER, **_MONEY)),
        [{"metric_code": "llm_tokens", "metric_name": "LLM tokens", "units": 26450535, **_MONEY_EXAMPLE}],
    ),
    _endpoint(
        "plans",
        plans,
        "Margin by plan",
        array(shape(plan_code=STRING, customers_count=INTEGER, **_MONEY)),
        [{"plan_code": "pro", "plan_name": "Pro", "customers_count": 16, **_MONEY_EXAMPLE}],
    ),
    _endpoint(
        "models",
        models,
        "Margin by AI model",
        array(shape(model=STRING, input_tokens=NUMBER, output_tokens=NUMBER, **_MONEY)),
        [
            {
                "model": "gpt-4o",
                "provider": "openai",
                "input_tokens": 22361870,
                "output_tokens": 4088665,
                **_MONEY_EXAMPLE,
            }
        ],
    ),
    _endpoint(
        "trend",
        trend,
        "Margin over time",
        shape(granularity=STRING, points=array(ANY_OBJECT)),
        {"granularity": "day", "points": [{"period": "2026-01-01T00:00:00Z", **_MONEY_EXAMPLE}]},
        TrendQuery,
    ),
)
