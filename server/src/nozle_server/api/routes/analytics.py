"""Figures of the merchant's business by month, in Core's form."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated

import msgspec

from nozle_server.analytics import queries
from nozle_server.analytics.model import Range
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.shapes import ANY_OBJECT, array, shape
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.money import is_currency
from nozle_server.customers.drafts import ONLY_BILLING_ENTITY
from nozle_server.customers.queries import get_customer
from nozle_server.identity.model import Organization
from nozle_server.identity.queries import get_organization


class AnalyticsQuery(msgspec.Struct):
    """`months` counts back from this one, which is included; without it everything is shown."""

    currency: str | None = None
    months: Annotated[int, msgspec.Meta(ge=0, le=1200)] | None = None
    billing_entity_code: str | None = None


class CustomerAnalyticsQuery(AnalyticsQuery):
    external_customer_id: str | None = None


async def gross_revenue(call: Call) -> object:
    organization, wanted = await _asked(call)
    rows = await queries.gross_revenue(call.tx, organization, wanted)
    return {
        "gross_revenues": [
            {
                "month": _month(row.month),
                "amount_cents": row.amount_cents,
                "currency": row.currency,
                "invoices_count": row.invoices_count,
            }
            for row in rows
        ]
    }


async def mrr(call: Call) -> object:
    _, wanted = await _asked(call)
    rows = await queries.recurring_revenue(call.tx, call.org_id, wanted)
    return {
        "mrrs": [
            {"month": _month(row.month), "amount_cents": row.amount_cents, "currency": row.currency}
            for row in rows
        ]
    }


async def invoice_collection(call: Call) -> object:
    _, wanted = await _asked(call)
    rows = await queries.invoice_collection(call.tx, call.org_id, wanted)
    return {
        "invoice_collections": [
            {
                "month": _month(row.month),
                "payment_status": row.payment_status,
                "invoices_count": row.invoices_count,
                "amount_cents": row.amount_cents,
                "currency": row.currency,
            }
            for row in rows
        ]
    }


async def invoiced_usage(call: Call) -> object:
    _, wanted = await _asked(call)
    rows = await queries.invoiced_usage(call.tx, call.org_id, wanted)
    return {
        "invoiced_usages": [
            {
                "month": _month(row.month),
                "code": row.code,
                "currency": row.currency,
                "amount_cents": row.amount_cents,
            }
            for row in rows
        ]
    }


async def overdue_balance(call: Call) -> object:
    organization, wanted = await _asked(call)
    rows = await queries.overdue_balance(call.tx, organization, wanted, call.now)
    return {
        "overdue_balances": [
            {
                "month": _month(row.month),
                "amount_cents": row.amount_cents,
                "currency": row.currency,
                "lago_invoice_ids": row.invoice_ids,
            }
            for row in rows
        ]
    }


async def _asked(call: Call) -> tuple[Organization, Range]:
    query: AnalyticsQuery = call.query
    currency = None if query.currency is None else query.currency.upper()
    if currency is not None and not is_currency(currency):
        raise InvalidInput("currency is not an ISO 4217 code", details={"currency": ["value_is_invalid"]})
    if query.billing_entity_code not in (None, ONLY_BILLING_ENTITY):
        raise NotFound("billing entity not found", code="billing_entity_not_found")
    customer = None
    if isinstance(query, CustomerAnalyticsQuery) and query.external_customer_id is not None:
        customer = await get_customer(call.tx, call.org_id, query.external_customer_id)
    organization = await get_organization(call.tx, call.org_id)
    wanted = await queries.range_of(
        call.tx,
        organization,
        months=query.months,
        currency=currency,
        customer_id=customer.id if customer else None,
        now=call.now,
    )
    return organization, wanted


def _month(first_day: date) -> str:
    """As Lago writes a month: the instant it begins with."""
    return f"{first_day.isoformat()}T00:00:00.000Z"


def _endpoint(
    name: str,
    plural: str,
    handler: Callable[[Call], Awaitable[object]],
    summary: str,
    description: str,
    row: dict[str, object],
    query: type[AnalyticsQuery] = AnalyticsQuery,
) -> Endpoint:
    return Endpoint(
        method="GET",
        path=f"/analytics/{name}",
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        description=description,
        tag="Analytics",
        query=query,
        reply_schema=shape(**{plural: array(ANY_OBJECT)}),
        errors=(404, 422),
        snapshot=True,
        example=Example(response={plural: [{"month": "2026-01-01T00:00:00.000Z", "currency": "USD", **row}]}),
    )


ENDPOINTS = (
    _endpoint(
        "gross_revenue",
        "gross_revenues",
        gross_revenue,
        "What was invoiced, by month",
        "Final invoices less refunds, and fees paid in advance that are on no invoice.",
        {"amount_cents": 50000, "invoices_count": 10},
        CustomerAnalyticsQuery,
    ),
    _endpoint(
        "mrr",
        "mrrs",
        mrr,
        "Monthly recurring revenue",
        "Subscription fees after coupons and with tax; longer ones are spread over their months.",
        {"amount_cents": 50000},
    ),
    _endpoint(
        "invoice_collection",
        "invoice_collections",
        invoice_collection,
        "Invoices by payment status, by month",
        "Final invoices by the month of their issuing date.",
        {"payment_status": "succeeded", "invoices_count": 10, "amount_cents": 50000},
    ),
    _endpoint(
        "invoiced_usage",
        "invoiced_usages",
        invoiced_usage,
        "What each metric's usage brought, by month",
        "Usage on final invoices, coupons taken off.",
        {"code": "llm_tokens", "amount_cents": 50000},
    ),
    _endpoint(
        "overdue_balance",
        "overdue_balances",
        overdue_balance,
        "What is overdue, by month",
        "What is open of invoices past their due date, by the month they were due in.",
        {"amount_cents": 50000, "lago_invoice_ids": ["1a901a90-1a90-1a90-1a90-1a901a901a90"]},
        CustomerAnalyticsQuery,
    ),
)
