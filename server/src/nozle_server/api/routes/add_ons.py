"""Add-ons, in Core's form."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import Call
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.routes.taxes import taxes_json_by_code
from nozle_server.catalog import add_on_store
from nozle_server.catalog.add_on_drafts import AddOnChanges, AddOnDraft
from nozle_server.catalog.model import AddOn
from nozle_server.catalog.operations import add_ons as add_on_operations
from nozle_server.catalog.queries import get_add_on
from nozle_server.taxes.queries import require_taxes


class AddOnBody(msgspec.Struct):
    add_on: AddOnDraft


class AddOnChangesBody(msgspec.Struct):
    add_on: AddOnChanges


async def create_add_on(call: Call) -> object:
    draft: AddOnDraft = call.body.add_on
    await require_taxes(call.tx, call.org_id, draft.tax_codes)
    add_on = await add_on_operations.create_add_on(call.tx, org_id=call.org_id, draft=draft, now=call.now)
    return await _one(call, add_on)


async def update_add_on(call: Call) -> object:
    changes: AddOnChanges = call.body.add_on
    if changes.tax_codes is not UNSET:
        await require_taxes(call.tx, call.org_id, changes.tax_codes)
    add_on = await add_on_operations.update_add_on(
        call.tx, org_id=call.org_id, code=call.path["code"], changes=changes, now=call.now
    )
    return await _one(call, add_on)


async def show_add_on(call: Call) -> object:
    return await _one(call, await get_add_on(call.tx, call.org_id, call.path["code"]))


async def delete_add_on(call: Call) -> object:
    add_on = await add_on_operations.delete_add_on(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    return await _one(call, add_on)


async def list_add_ons(call: Call) -> object:
    query: PageQuery = call.query
    add_ons, total = await add_on_store.list_add_ons(
        call.tx, call.org_id, limit=query.per_page, offset=query.offset
    )
    return {"add_ons": await _many(call, add_ons), "meta": page_meta(query, total)}


async def _one(call: Call, add_on: AddOn) -> object:
    [shown] = await _many(call, [add_on])
    return {"add_on": shown}


async def _many(call: Call, add_ons: Sequence[AddOn]) -> list[dict[str, object]]:
    codes = [code for add_on in add_ons for code in add_on.tax_codes]
    taxes = await taxes_json_by_code(call.tx, call.org_id, codes)
    return [
        {
            "lago_id": add_on.id,
            "nozle_id": add_on.id,
            "name": add_on.name,
            "invoice_display_name": add_on.invoice_display_name,
            "code": add_on.code,
            "description": add_on.description,
            "amount_cents": add_on.amount_cents,
            "amount_currency": add_on.currency,
            "created_at": add_on.created_at,
            "taxes": [taxes[code] for code in add_on.tax_codes if code in taxes],
        }
        for add_on in add_ons
    ]


ENDPOINTS = (
    *core_resource(
        path="/add_ons",
        name="add_on",
        plural="add_ons",
        words="add-on",
        tag="Add-ons",
        body=AddOnBody,
        update_body=AddOnChangesBody,
        example={
            "code": "setup_fee",
            "name": "Setup Fee",
            "amount_cents": 50000,
            "amount_currency": "USD",
            "description": "Implementation fee for new customers.",
        },
        create=create_add_on,
        index=list_add_ons,
        show=show_add_on,
        update=update_add_on,
        delete=delete_add_on,
    ),
)
