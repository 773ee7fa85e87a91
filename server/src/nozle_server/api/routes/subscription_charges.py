"""What a subscription has otherwise in the charges of its plan, one at a time, in Core's form.

Charges are named by their code or their id. A change gives the subscription a version of its own of the plan, which
its next invoice goes by; the plan stays as it is.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, structs

from nozle_server.api.endpoint import CORE, Amount, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.plan_forms import add_on_names, charge_json, filter_json, fixed_charge_json
from nozle_server.api.routes.core_subscriptions import hold_subscription, named_subscription
from nozle_server.api.routes.taxes import taxes_json_by_code
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.catalog import plan_store
from nozle_server.catalog.drafts import (
    ChargeFilterDraft,
    ChargeOverride,
    FixedChargeOverride,
    PlanOverrides,
    all_tax_codes,
    refuse,
)
from nozle_server.catalog.model import Charge, FixedCharge, PlanVersion
from nozle_server.catalog.operations.plans import override_version
from nozle_server.catalog.plan_parts import get_charge, get_filter, get_fixed_charge
from nozle_server.core.errors import InvalidInput
from nozle_server.subscriptions.model import Status
from nozle_server.taxes.queries import require_taxes
from nozle_server.workflows.update_subscription import use_version


class ChargeOverrideDraft(msgspec.Struct, kw_only=True):
    """What is left out stays; `filters` replace what was there, those named by their id keep what is not said."""

    properties: dict[str, Any] | UnsetType | None = UNSET
    filters: list[ChargeFilterDraft] | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    min_amount_cents: int | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET
    applied_pricing_unit: dict[str, Any] | None = None


class ChargeOverrideBody(msgspec.Struct):
    charge: ChargeOverrideDraft


class FilterBody(msgspec.Struct):
    filter: ChargeFilterDraft


class FixedChargeOverrideDraft(msgspec.Struct, kw_only=True):
    """What is left out stays."""

    properties: dict[str, Any] | UnsetType | None = UNSET
    units: Amount | UnsetType | None = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType | None = UNSET
    apply_units_immediately: bool | None = None


class FixedChargeOverrideBody(msgspec.Struct):
    fixed_charge: FixedChargeOverrideDraft


class WhichQuery(msgspec.Struct):
    """Of several subscriptions with the external id: the active one, or the one that is `pending`."""

    subscription_status: str | None = None


class ListQuery(PageQuery):
    """As `WhichQuery`, with pages."""

    subscription_status: str | None = None


async def list_charges(call: Call) -> object:
    query: ListQuery = call.query
    charges = (await _version(call)).charges
    shown = charges[query.offset : query.offset + query.per_page]
    taxes = await _taxes(call, *shown)
    return {"charges": [charge_json(one, taxes) for one in shown], "meta": page_meta(query, len(charges))}


async def show_charge(call: Call) -> object:
    return await _shown(call, get_charge(await _version(call), call.path["charge_code"]))


async def update_charge(call: Call) -> object:
    draft: ChargeOverrideDraft = call.body.charge
    refuse(draft, ("applied_pricing_unit",))
    said = {name: getattr(draft, name) for name in draft.__struct_fields__ if name != "applied_pricing_unit"}
    return await _shown(call, await _override(call, said))


async def list_fixed_charges(call: Call) -> object:
    query: ListQuery = call.query
    charges = (await _version(call)).fixed_charges
    shown = charges[query.offset : query.offset + query.per_page]
    taxes = await _taxes(call, *shown)
    add_ons = await add_on_names(call.tx, call.org_id, shown)
    return {
        "fixed_charges": [fixed_charge_json(one, taxes, add_ons) for one in shown],
        "meta": page_meta(query, len(charges)),
    }


async def show_fixed_charge(call: Call) -> object:
    return await _fixed(call, get_fixed_charge(await _version(call), call.path["fixed_charge_code"]))


async def update_fixed_charge(call: Call) -> object:
    draft: FixedChargeOverrideDraft = call.body.fixed_charge
    refuse(draft, ("apply_units_immediately",))
    said = {
        name: getattr(draft, name) for name in draft.__struct_fields__ if name != "apply_units_immediately"
    }
    name = call.path["fixed_charge_code"]

    def overrides(version: PlanVersion) -> PlanOverrides:
        charge = get_fixed_charge(version, name)
        return PlanOverrides(fixed_charges=[FixedChargeOverride(id=charge.id, **said)])

    return await _fixed(call, get_fixed_charge(await _change(call, overrides), name))


async def list_filters(call: Call) -> object:
    query: ListQuery = call.query
    filters = get_charge(await _version(call), call.path["charge_code"]).filters
    shown = filters[query.offset : query.offset + query.per_page]
    return {"filters": [filter_json(one) for one in shown], "meta": page_meta(query, len(filters))}


async def show_filter(call: Call) -> object:
    charge = get_charge(await _version(call), call.path["charge_code"])
    return {"filter": filter_json(get_filter(charge, call.path["filter_id"]))}


async def create_filter(call: Call) -> object:
    draft: ChargeFilterDraft = structs.replace(call.body.filter, id=None)
    changed = await _override(
        call, lambda charge: {"filters": [*(ChargeFilterDraft(id=one.id) for one in charge.filters), draft]}
    )
    return {"filter": filter_json(changed.filters[-1])}


async def update_filter(call: Call) -> object:
    draft: ChargeFilterDraft = call.body.filter
    filter_id = call.path["filter_id"]

    def said(charge: Charge) -> dict[str, Any]:
        changed = get_filter(charge, filter_id)
        if draft.values and {key: tuple(of) for key, of in draft.values.items()} != changed.values:
            raise InvalidInput("a filter keeps its values", details={"values": ["value_is_fixed"]})
        return {
            "filters": [
                structs.replace(draft, id=one.id) if one is changed else ChargeFilterDraft(id=one.id)
                for one in charge.filters
            ]
        }

    return {"filter": filter_json(get_filter(await _override(call, said), filter_id))}


async def delete_filter(call: Call) -> object:
    filter_id = call.path["filter_id"]
    charge = get_charge(await _version(call), call.path["charge_code"])
    removed = get_filter(charge, filter_id)
    await _override(
        call,
        lambda charge: {
            "filters": [ChargeFilterDraft(id=one.id) for one in charge.filters if str(one.id) != filter_id]
        },
    )
    return {"filter": filter_json(removed)}


def _statuses(call: Call) -> tuple[str, ...]:
    wanted = call.query.subscription_status or Status.ACTIVE
    if wanted not in (Status.ACTIVE, Status.PENDING):
        raise InvalidInput(
            "subscription_status is active or pending", details={"subscription_status": ["value_is_invalid"]}
        )
    return (wanted,)


async def _version(call: Call) -> PlanVersion:
    """What the subscription is billed by."""
    subscription = await named_subscription(call, _statuses(call))
    return await plan_store.get_plan_version(call.tx, call.org_id, subscription.plan_version_id)


async def _override(call: Call, said: Any) -> Charge:
    """The path's charge with what is said of it, or with what a function says of the charge as it is."""
    name = call.path["charge_code"]

    def overrides(version: PlanVersion) -> PlanOverrides:
        charge = get_charge(version, name)
        return PlanOverrides(
            charges=[ChargeOverride(id=charge.id, **(said(charge) if callable(said) else said))]
        )

    return get_charge(await _change(call, overrides), name)


async def _change(call: Call, overrides: Any) -> PlanVersion:
    """The version that the subscription is billed by from now on."""
    subscription = await hold_subscription(call, _statuses(call))
    base = await plan_store.get_plan_version(call.tx, call.org_id, subscription.plan_version_id)
    wanted = overrides(base)
    await require_taxes(call.tx, call.org_id, sorted(all_tax_codes(wanted)))
    version = await override_version(call.tx, base=base, overrides=wanted, now=call.now)
    await use_version(call.tx, call.services.seams, subscription=subscription, version=version, now=call.now)
    return version


async def _taxes(call: Call, *charges: Charge | FixedCharge) -> dict[str, dict[str, object]]:
    codes = sorted({code for charge in charges for code in charge.tax_codes})
    return await taxes_json_by_code(call.tx, call.org_id, codes)


async def _shown(call: Call, charge: Charge) -> object:
    return {"charge": charge_json(charge, await _taxes(call, charge))}


async def _fixed(call: Call, charge: FixedCharge) -> object:
    add_ons = await add_on_names(call.tx, call.org_id, [charge])
    return {"fixed_charge": fixed_charge_json(charge, await _taxes(call, charge), add_ons)}


_CHARGES = "/subscriptions/{external_id}/charges"
_FIXED = "/subscriptions/{external_id}/fixed_charges"
_CHARGE: dict[str, object] = {
    "code": "llm_tokens",
    "billable_metric_code": "llm_tokens",
    "charge_model": "standard",
    "properties": {"amount": "0.009"},
}
_FIXED_CHARGE: dict[str, object] = {"code": "support", "add_on_code": "support", "units": 2}
_FILTER: dict[str, object] = {"values": {"model": ["large"]}, "properties": {"amount": "0.05"}}


def _endpoints(
    path: str,
    parameter: str,
    envelope: str,
    words: str,
    shown: dict[str, object],
    sent: dict[str, object],
    *rows: tuple[str, Any, type[msgspec.Struct] | None],
) -> tuple[Endpoint, ...]:
    plural = envelope + "s"
    made = []
    for method, handler, body in rows:
        many = method == "GET" and handler in (list_charges, list_fixed_charges, list_filters)
        verb = {"GET": "List" if many else "Get", "POST": "Add", "PUT": "Change", "DELETE": "Remove"}[method]
        made.append(
            Endpoint(
                method=method,
                path=path if many or method == "POST" else f"{path}/{{{parameter}}}",
                handler=handler,
                scope=Scope.SECRET,
                mounts=CORE,
                summary=f"{verb} {words}s of a subscription"
                if many
                else f"{verb} a {words} of a subscription",
                description=""
                if method == "GET"
                else "For this subscription only, from its next invoice on.",
                tag="Charges of subscriptions",
                body=body,
                query=ListQuery if many else WhichQuery,
                reply_schema=shape(**{plural: array(ANY_OBJECT), "meta": PAGE_META})
                if many
                else shape(**{envelope: ANY_OBJECT}),
                errors=(404, 422),
                idempotent=method == "POST",
                example=Example(
                    request={envelope: sent} if body else None,
                    response={plural: [shown], "meta": page_meta(PageQuery(), 1)}
                    if many
                    else {envelope: shown},
                ),
            )
        )
    return tuple(made)


ENDPOINTS = (
    *_endpoints(
        _CHARGES,
        "charge_code",
        "charge",
        "charge",
        _CHARGE,
        {"properties": {"amount": "0.009"}},
        ("GET", list_charges, None),
        ("GET", show_charge, None),
        ("PUT", update_charge, ChargeOverrideBody),
    ),
    *_endpoints(
        _CHARGES + "/{charge_code}/filters",
        "filter_id",
        "filter",
        "charge's filter",
        _FILTER,
        _FILTER,
        ("GET", list_filters, None),
        ("GET", show_filter, None),
        ("POST", create_filter, FilterBody),
        ("PUT", update_filter, FilterBody),
        ("DELETE", delete_filter, None),
    ),
    *_endpoints(
        _FIXED,
        "fixed_charge_code",
        "fixed_charge",
        "fixed charge",
        _FIXED_CHARGE,
        {"units": 2},
        ("GET", list_fixed_charges, None),
        ("GET", show_fixed_charge, None),
        ("PUT", update_fixed_charge, FixedChargeOverrideBody),
    ),
)
