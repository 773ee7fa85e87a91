"""Taxes, in Core's form."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import Call
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.infra.database import Tx
from nozle_server.taxes import operations, store
from nozle_server.taxes.drafts import TaxChanges, TaxDraft
from nozle_server.taxes.model import Tax
from nozle_server.taxes.queries import count_customers, find_taxes, get_tax


class TaxBody(msgspec.Struct):
    tax: TaxDraft


class TaxChangesBody(msgspec.Struct):
    tax: TaxChanges


async def taxes_json(tx: Tx, org_id: UUID, taxes: Sequence[Tax]) -> list[dict[str, object]]:
    """Core's tax objects, in the order given; also for the objects that show their taxes."""
    customers = await count_customers(tx, org_id, taxes)
    return [
        {
            "lago_id": tax.id,
            "nozle_id": tax.id,
            "name": tax.name,
            "code": tax.code,
            "rate": tax.rate,
            "description": tax.description,
            "applied_to_organization": tax.applied_to_organization,
            "customers_count": customers[tax.id],
            "created_at": tax.created_at,
        }
        for tax in taxes
    ]


async def taxes_json_by_code(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, dict[str, object]]:
    """Core's tax objects of those codes that exist."""
    taxes = await find_taxes(tx, org_id, codes)
    return dict(zip(taxes, await taxes_json(tx, org_id, list(taxes.values())), strict=True))


async def create_tax(call: Call) -> object:
    tax = await operations.create_tax(call.tx, org_id=call.org_id, draft=call.body.tax, now=call.now)
    return await _one(call, tax)


async def update_tax(call: Call) -> object:
    tax = await operations.update_tax(
        call.tx, org_id=call.org_id, code=call.path["code"], changes=call.body.tax, now=call.now
    )
    return await _one(call, tax)


async def show_tax(call: Call) -> object:
    return await _one(call, await get_tax(call.tx, call.org_id, call.path["code"]))


async def delete_tax(call: Call) -> object:
    tax = await operations.delete_tax(call.tx, org_id=call.org_id, code=call.path["code"], now=call.now)
    return await _one(call, tax)


async def list_taxes(call: Call) -> object:
    query: PageQuery = call.query
    taxes, total = await store.list_taxes(call.tx, call.org_id, limit=query.per_page, offset=query.offset)
    return {"taxes": await taxes_json(call.tx, call.org_id, taxes), "meta": page_meta(query, total)}


async def _one(call: Call, tax: Tax) -> object:
    [shown] = await taxes_json(call.tx, call.org_id, [tax])
    return {"tax": shown}


ENDPOINTS = (
    *core_resource(
        path="/taxes",
        name="tax",
        plural="taxes",
        words="tax",
        body=TaxBody,
        update_body=TaxChangesBody,
        tag="Taxes",
        example={
            "code": "french_standard_vat",
            "name": "TVA",
            "rate": "20.0",
            "description": "French standard VAT",
            "applied_to_organization": True,
        },
        create=create_tax,
        index=list_taxes,
        show=show_tax,
        update=update_tax,
        delete=delete_tax,
    ),
)
