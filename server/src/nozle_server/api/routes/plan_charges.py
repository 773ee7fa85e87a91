"""The charges of a plan, their filters, and its fixed charges, one at a time, in Core's form.

Each change makes the plan's next version, because prices never change; with `cascade_updates` subscribers get it when
their billing period ends. Charges are named by their code or their id.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.plan_forms import add_on_names, charge_json, filter_json, fixed_charge_json
from nozle_server.api.rights import rights_changed
from nozle_server.api.routes.taxes import taxes_json_by_code
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.catalog.drafts import ChargeDraft, ChargeFilterDraft, FixedChargeDraft
from nozle_server.catalog.model import Charge, FixedCharge, Plan
from nozle_server.catalog.plan_parts import (
    Edit,
    adding_charge,
    adding_filter,
    adding_fixed_charge,
    changing_charge,
    changing_filter,
    changing_fixed_charge,
    get_charge,
    get_filter,
    get_fixed_charge,
)
from nozle_server.catalog.queries import get_plan
from nozle_server.workflows.edit_plan import edit_plan


class ChargeChange(ChargeDraft, kw_only=True):
    cascade_updates: bool | None = None


class ChargeBody(msgspec.Struct):
    charge: ChargeChange


class ChargeFilterChange(ChargeFilterDraft, kw_only=True):
    cascade_updates: bool | None = None


class ChargeFilterBody(msgspec.Struct):
    filter: ChargeFilterChange


class FixedChargeChange(FixedChargeDraft, kw_only=True):
    cascade_updates: bool | None = None


class FixedChargeBody(msgspec.Struct):
    fixed_charge: FixedChargeChange


async def list_charges(call: Call) -> object:
    plan = await _plan(call)
    return await _page(call, "charges", plan.current.charges)


async def show_charge(call: Call) -> object:
    return await _charge(call, get_charge((await _plan(call)).current, call.path["charge_code"]))


async def create_charge(call: Call) -> object:
    draft: ChargeChange = call.body.charge
    plan = await _change(call, adding_charge(draft), draft.cascade_updates)
    return await _charge(call, plan.current.charges[-1])


async def update_charge(call: Call) -> object:
    draft: ChargeChange = call.body.charge
    name = call.path["charge_code"]
    charge_id = get_charge((await _plan(call)).current, name).id
    plan = await _change(call, changing_charge(name, draft), draft.cascade_updates)
    # A price of another metric is another charge, in the place of the one that was there.
    found = next((one for one in plan.current.charges if one.id == charge_id), None)
    return await _charge(call, found or get_charge(plan.current, name))


async def delete_charge(call: Call) -> object:
    charge = get_charge((await _plan(call)).current, call.path["charge_code"])
    cascade = call.body.charge.cascade_updates if call.body else None
    await _change(call, changing_charge(str(charge.id), None), cascade)
    return await _charge(call, charge)


async def list_filters(call: Call) -> object:
    charge = get_charge((await _plan(call)).current, call.path["charge_code"])
    query: PageQuery = call.query
    shown = charge.filters[query.offset : query.offset + query.per_page]
    return {
        "filters": [filter_json(one) for one in shown],
        "meta": page_meta(query, len(charge.filters)),
    }


async def show_filter(call: Call) -> object:
    charge = get_charge((await _plan(call)).current, call.path["charge_code"])
    return {"filter": filter_json(get_filter(charge, call.path["filter_id"]))}


async def create_filter(call: Call) -> object:
    draft: ChargeFilterChange = call.body.filter
    name = call.path["charge_code"]
    plan = await _change(call, adding_filter(name, draft), draft.cascade_updates)
    return {"filter": filter_json(get_charge(plan.current, name).filters[-1])}


async def update_filter(call: Call) -> object:
    draft: ChargeFilterChange = call.body.filter
    name, filter_id = call.path["charge_code"], call.path["filter_id"]
    plan = await _change(call, changing_filter(name, filter_id, draft), draft.cascade_updates)
    return {"filter": filter_json(get_filter(get_charge(plan.current, name), filter_id))}


async def delete_filter(call: Call) -> object:
    name, filter_id = call.path["charge_code"], call.path["filter_id"]
    removed = get_filter(get_charge((await _plan(call)).current, name), filter_id)
    cascade = call.body.filter.cascade_updates if call.body else None
    await _change(call, changing_filter(name, filter_id, None), cascade)
    return {"filter": filter_json(removed)}


async def list_fixed_charges(call: Call) -> object:
    plan = await _plan(call)
    return await _page(call, "fixed_charges", plan.current.fixed_charges)


async def show_fixed_charge(call: Call) -> object:
    found = get_fixed_charge((await _plan(call)).current, call.path["fixed_charge_code"])
    return await _fixed_charge(call, found)


async def create_fixed_charge(call: Call) -> object:
    draft: FixedChargeChange = call.body.fixed_charge
    plan = await _change(call, adding_fixed_charge(draft), draft.cascade_updates)
    return await _fixed_charge(call, plan.current.fixed_charges[-1])


async def update_fixed_charge(call: Call) -> object:
    draft: FixedChargeChange = call.body.fixed_charge
    name = call.path["fixed_charge_code"]
    before = get_fixed_charge((await _plan(call)).current, name)
    plan = await _change(call, changing_fixed_charge(name, draft), draft.cascade_updates)
    found = next((one for one in plan.current.fixed_charges if one.id == before.id), None)
    return await _fixed_charge(call, found or get_fixed_charge(plan.current, name))


async def delete_fixed_charge(call: Call) -> object:
    removed = get_fixed_charge((await _plan(call)).current, call.path["fixed_charge_code"])
    cascade = call.body.fixed_charge.cascade_updates if call.body else None
    await _change(call, changing_fixed_charge(str(removed.id), None), cascade)
    return await _fixed_charge(call, removed)


async def _plan(call: Call) -> Plan:
    return await get_plan(call.tx, call.org_id, call.path["code"])


async def _change(call: Call, edit: Edit, cascade: bool | None) -> Plan:
    await rights_changed(call)
    return await edit_plan(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        edit=edit,
        cascade=bool(cascade),
        now=call.now,
    )


async def _charge(call: Call, charge: Charge) -> object:
    taxes = await taxes_json_by_code(call.tx, call.org_id, charge.tax_codes)
    return {"charge": charge_json(charge, taxes)}


async def _fixed_charge(call: Call, charge: FixedCharge) -> object:
    taxes = await taxes_json_by_code(call.tx, call.org_id, charge.tax_codes)
    add_ons = await add_on_names(call.tx, call.org_id, [charge])
    return {"fixed_charge": fixed_charge_json(charge, taxes, add_ons)}


async def _page(call: Call, plural: str, charges: Sequence[Charge | FixedCharge]) -> object:
    """The newest first."""
    query: PageQuery = call.query
    newest: list[Charge | FixedCharge] = sorted(
        charges, key=lambda one: (one.created_at, one.id), reverse=True
    )
    shown = newest[query.offset : query.offset + query.per_page]
    taxes = await taxes_json_by_code(
        call.tx, call.org_id, sorted({code for one in shown for code in one.tax_codes})
    )
    add_ons = await add_on_names(call.tx, call.org_id, [one for one in shown if isinstance(one, FixedCharge)])
    return {
        plural: [
            charge_json(one, taxes) if isinstance(one, Charge) else fixed_charge_json(one, taxes, add_ons)
            for one in shown
        ],
        "meta": page_meta(query, len(charges)),
    }


def _resource(
    path: str,
    parameter: str,
    envelope: str,
    plural: str,
    words: str,
    body: type[msgspec.Struct],
    example: dict[str, object],
    handlers: tuple[Any, Any, Any, Any, Any],
) -> tuple[Endpoint, ...]:
    """List, get, create, change and delete a part of a plan."""
    index, show, create, update, delete = handlers
    one, sent = shape(**{envelope: ANY_OBJECT}), {envelope: example}
    article = "a" if words[0] != "u" else "an"
    rows: tuple[tuple[str, str, Any, str, dict[str, Any]], ...] = (
        (
            "GET",
            path,
            index,
            f"List {words.replace(' of ', 's of ', 1)}",
            {"query": PageQuery, "errors": (404,)},
        ),
        ("GET", f"{path}/{{{parameter}}}", show, f"Get {article} {words}", {"errors": (404,)}),
        (
            "POST",
            path,
            create,
            f"Add {article} {words.replace(' of ', ' to ', 1)}",
            {"body": body, "errors": (404, 422), "idempotent": True},
        ),
        (
            "PUT",
            f"{path}/{{{parameter}}}",
            update,
            f"Change {article} {words}",
            {"body": body, "errors": (404, 422)},
        ),
        (
            "DELETE",
            f"{path}/{{{parameter}}}",
            delete,
            f"Remove {article} {words.replace(' of ', ' from ', 1)}",
            {"body": body, "body_optional": True, "errors": (404, 422)},
        ),
    )
    return tuple(
        Endpoint(
            method=method,
            path=place,
            handler=handler,
            scope=Scope.SECRET,
            mounts=CORE,
            summary=summary,
            tag="Charges of plans",
            description="" if method == "GET" else "Makes the plan's next version.",
            reply_schema=shape(**{plural: array(ANY_OBJECT), "meta": PAGE_META}) if handler is index else one,
            example=Example(
                request=sent if method in ("POST", "PUT") else None,
                response={plural: [example], "meta": page_meta(PageQuery(), 1)} if handler is index else sent,
            ),
            **more,
        )
        for method, place, handler, summary, more in rows
    )


_CHARGES = "/plans/{code}/charges"

ENDPOINTS = (
    *_resource(
        _CHARGES,
        "charge_code",
        "charge",
        "charges",
        "charge of a plan",
        ChargeBody,
        {
            "billable_metric_code": "llm_tokens",
            "code": "llm_tokens",
            "charge_model": "standard",
            "properties": {"amount": "0.01"},
        },
        (list_charges, show_charge, create_charge, update_charge, delete_charge),
    ),
    *_resource(
        _CHARGES + "/{charge_code}/filters",
        "filter_id",
        "filter",
        "filters",
        "filter of a charge",
        ChargeFilterBody,
        {"values": {"model": ["large"]}, "properties": {"amount": "0.05"}, "invoice_display_name": "Large"},
        (list_filters, show_filter, create_filter, update_filter, delete_filter),
    ),
    *_resource(
        "/plans/{code}/fixed_charges",
        "fixed_charge_code",
        "fixed_charge",
        "fixed_charges",
        "fixed charge of a plan",
        FixedChargeBody,
        {
            "add_on_code": "support",
            "code": "support",
            "charge_model": "standard",
            "units": 1,
            "properties": {"amount": "500"},
        },
        (
            list_fixed_charges,
            show_fixed_charge,
            create_fixed_charge,
            update_fixed_charge,
            delete_fixed_charge,
        ),
    ),
)
