"""Explain this number: what made a fee, and what late usage is about to change of an invoice."""

from nozle_server.api.core_fees import fees_json
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.event_forms import event_json
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, INTEGER, PAGE_META, STRING, array, optional, shape
from nozle_server.core.errors import NotFound
from nozle_server.core.ids import from_text
from nozle_server.core.money import to_major
from nozle_server.core.numbers import to_plain
from nozle_server.invoicing import store as invoicing_store
from nozle_server.workflows.adjust_periods import Correction, corrections_of
from nozle_server.workflows.explain_fee import Explanation, explain_fee


async def explain(call: Call) -> object:
    query: PageQuery = call.query
    found = await explain_fee(
        call.tx,
        org_id=call.org_id,
        line_id=from_text("line", call.path["id"], what="fee"),
        limit=query.per_page,
        offset=query.offset,
    )
    return {"explanation": explanation_json(found, query)}


def explanation_json(found: Explanation, query: PageQuery) -> dict[str, object]:
    line, version = found.line, found.version
    return {
        "lago_fee_id": line.id,
        "nozle_fee_id": line.id,
        "lago_invoice_id": line.invoice_id,
        "invoice_number": found.invoice.number if found.invoice else None,
        "description": line.description,
        "sentences": list(found.sentences),
        "amount_cents": line.amount_cents,
        "currency": line.currency,
        "period": {"from": line.period_start, "to": line.period_end},
        "price": {
            "plan_code": found.plan_code,
            "plan_version": version.version if version else None,
            "plan_version_created_at": version.created_at if version else None,
            **found.price,
            "filter_values": found.charge_filter.values if found.charge_filter else None,
            "grouped_by": line.grouped_by,
        },
        "usage": {
            "billable_metric_code": line.metric_code,
            "aggregation_type": found.metric.aggregation if found.metric else None,
            "units": to_plain(line.units),
            "events_count": line.events_count,
            "events": [event_json(event) for event in found.events],
            "meta": page_meta(query, found.events_count),
        },
        "steps": line.steps,
        "rounding": {
            "exact_amount_cents": to_plain(line.exact_amount_cents),
            "precise_amount": to_plain(to_major(line.exact_amount_cents, line.currency)),
            "amount_cents": line.amount_cents,
            "rule": "half away from zero, once",
        },
        "coupons_exact_amount_cents": to_plain(line.coupons_exact_amount_cents),
        "taxes": [
            {
                "tax_code": tax.code,
                "tax_name": tax.name,
                "tax_rate": tax.rate,
                "base_exact_cents": to_plain(tax.base_cents),
                "amount_cents": tax.amount_cents,
            }
            for tax in line.applied_taxes
        ],
        "taxes_amount_cents": line.taxes_amount_cents,
        "total_amount_cents": line.amount_cents + line.taxes_amount_cents,
        "corrects_invoice_id": line.adjusts_invoice_id,
        "invoice": {
            "sentences": list(found.invoice_sentences),
            "credits": [
                {
                    "kind": one.kind,
                    "source_id": one.source_id,
                    "name": one.label,
                    "code": one.code,
                    "amount_cents": one.amount_cents,
                }
                for one in (found.invoice.credits if found.invoice else ())
            ],
        },
    }


async def adjustments(call: Call) -> object:
    invoice_id = from_text("inv", call.path["id"], what="invoice")
    invoice = await invoicing_store.find(call.tx, call.org_id, invoice_id)
    if invoice is None:
        raise NotFound("invoice not found", code="invoice_not_found")
    found = await corrections_of(call.tx, call.services.seams, invoice, now=call.now)
    return {"adjustments": [await _adjustment(call, one) for one in found]}


async def _adjustment(call: Call, one: Correction) -> dict[str, object]:
    fees = await fees_json(call.tx, call.org_id, one.lines)
    return {
        "lago_subscription_id": one.subscription_id,
        "from_datetime": one.period.start,
        "to_datetime": one.period.end,
        "status": one.status,
        "lago_invoice_id": one.invoice_id,
        "net_amount_cents": sum(line.amount_cents for line in one.lines),
        "fees": [{**fee, "steps": line.steps} for fee, line in zip(fees, one.lines, strict=True)],
    }


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/fees/{id}/explanation",
        handler=explain,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Explain a fee",
        description=(
            "Everything that made the amount: the events counted (paged), the version of the price, the walk through its"
            " tiers, days of proration, rounding, coupons, taxes; as data and as sentences."
        ),
        tag="Fees",
        query=PageQuery,
        reply_schema=shape(
            explanation=shape(
                sentences=array(STRING),
                amount_cents=INTEGER,
                currency=STRING,
                price=ANY_OBJECT,
                usage=shape(events=array(ANY_OBJECT), meta=PAGE_META),
                steps=array(ANY_OBJECT),
                rounding=ANY_OBJECT,
                taxes=array(ANY_OBJECT),
            )
        ),
        errors=(404,),
        snapshot=True,
        example=Example(
            response={
                "explanation": {
                    "sentences": [
                        "Usage of LLM tokens on Pro, version 1, for 2026-01-01 00:00 UTC up to 2026-02-01 00:00 UTC.",
                        "3 events, summed up: 1500 units.",
                        "1500 units at 0.01 USD each: 15.00 USD.",
                        "That is 15.00 USD exactly.",
                        "No tax applies.",
                    ],
                    "amount_cents": 1500,
                    "currency": "USD",
                    "price": {"plan_code": "pro", "plan_version": 1, "charge_model": "standard"},
                    "usage": {"events": [], "meta": page_meta(PageQuery(), 0)},
                    "steps": [{"kind": "units", "units": 1500, "unit_price_cents": 1, "amount_cents": 1500}],
                    "rounding": {"exact_amount_cents": "1500", "amount_cents": 1500},
                    "taxes": [],
                }
            }
        ),
    ),
    Endpoint(
        method="GET",
        path="/invoices/{id}/adjustments",
        handler=adjustments,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List what late usage changes of an invoice",
        description=(
            "Events that came for the invoice's period after it was final. `pending`: what the next invoice would say now,"
            " before coupons and tax. `invoiced` and `credited`: what later invoices and credit notes said."
        ),
        tag="Invoices",
        reply_schema=shape(
            adjustments=array(
                shape(
                    status=STRING,
                    net_amount_cents=INTEGER,
                    fees=array(ANY_OBJECT),
                    lago_invoice_id=optional(STRING),
                )
            )
        ),
        errors=(404,),
        snapshot=True,
        example=Example(
            response={
                "adjustments": [
                    {
                        "status": "pending",
                        "from_datetime": "2026-01-01T00:00:00Z",
                        "to_datetime": "2026-02-01T00:00:00Z",
                        "net_amount_cents": 120,
                        "fees": [{"amount_cents": 120}],
                        "lago_invoice_id": None,
                    }
                ]
            }
        ),
    ),
)
