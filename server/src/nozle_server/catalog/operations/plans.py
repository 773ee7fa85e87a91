"""Define, change and remove plans. A change of price makes the next version; subscribers keep the one they have."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET

from nozle_server.catalog import add_on_store, metric_store, plan_store
from nozle_server.catalog.drafts import (
    ChargeDraft,
    ChargeOverride,
    PlanChange,
    PlanDraft,
    PlanOverrides,
    PlanTerms,
    kept,
    said,
)
from nozle_server.catalog.model import AddOn, Metric, Plan, PlanVersion
from nozle_server.catalog.operations.credit_systems import require_active_systems
from nozle_server.catalog.operations.entitlements import set_entitlements
from nozle_server.catalog.plan_terms import (
    Sold,
    change_version,
    define_version,
    overridden_version,
    same_prices,
)
from nozle_server.catalog.queries import get_plan, unknown_plan
from nozle_server.core.errors import Conflict, InvalidInput, NotFound, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra.database import Tx

# Lago's bounds of what a merchant notes on an object.
MAX_METADATA_KEYS = 50
MAX_METADATA_KEY_LENGTH = 40
MAX_METADATA_VALUE_LENGTH = 255


async def create_plan(tx: Tx, *, org_id: UUID, draft: PlanDraft, now: datetime) -> Plan:
    """A new plan with its first version; Conflict `value_already_exist` when its code is taken."""
    plan_id = new_id()
    version = await plan_version(tx, draft, org_id=org_id, plan_id=plan_id, previous=None, now=now)
    code = parse_id(draft.code, "code")
    created = await plan_store.insert_plan(
        tx,
        org_id=org_id,
        plan_id=plan_id,
        code=code,
        name=_name(said(draft.name, ""), code),
        description=_description(draft, None),
        now=now,
    )
    if not created:
        raise Conflict(
            "a plan with this code exists",
            code="value_already_exist",
            details={"code": ["value_already_exist"]},
        )
    await plan_store.add_version(tx, version)
    await _set_rest(tx, draft, org_id=org_id, plan_id=plan_id, code=code, now=now)
    return await get_plan(tx, org_id, code)


async def update_plan(tx: Tx, *, org_id: UUID, code: str, draft: PlanDraft, now: datetime) -> Plan:
    """Replace a plan's definition. Other prices make another version; entitlements change for everybody at once."""
    previous = await _lock(tx, org_id, code)
    _check_code(draft.code, previous)
    version = await plan_version(
        tx, draft, org_id=org_id, plan_id=previous.id, previous=previous.current, now=now
    )
    name, description = _name(said(draft.name, ""), previous.code), _description(draft, None)
    return await _store(tx, previous, version, draft, name=name, description=description, now=now)


async def change_plan(tx: Tx, *, org_id: UUID, code: str, change: PlanChange, now: datetime) -> Plan:
    """Change what is said of a plan, and nothing else. Other prices make another version."""
    return await edit_plan(tx, org_id=org_id, code=code, edit=lambda _: change, now=now)


async def edit_plan(
    tx: Tx, *, org_id: UUID, code: str, edit: Callable[[Plan], PlanChange], now: datetime
) -> Plan:
    """As `change_plan`, where what to change depends on the plan, which is held from before `edit` looks at it."""
    previous = await _lock(tx, org_id, code)
    change = edit(previous)
    _check_code(change.code or previous.code, previous)
    version = await version_after(tx, change, base=previous.current, now=now)
    name = _name(kept(change.name, previous.name, ""), previous.code)
    description = _description(change, previous.description)
    return await _store(tx, previous, version, change, name=name, description=description, now=now)


async def delete_plan(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> Plan:
    """Remove a plan that nobody is subscribed to."""
    plan = await _lock(tx, org_id, code)
    if await plan_store.count_subscriptions(tx, org_id, plan.id):
        raise RuleBroken("the plan has subscriptions", code="plan_has_subscriptions")
    await plan_store.delete_plan(tx, org_id, plan.id, now)
    return plan


async def plan_version(
    tx: Tx, draft: PlanDraft, *, org_id: UUID, plan_id: UUID, previous: PlanVersion | None, now: datetime
) -> PlanVersion:
    """The version that a whole definition describes; what is the same thing as in the previous one keeps its id."""
    sold = await _sold(tx, org_id, draft, previous)
    return define_version(draft, sold, org_id=org_id, plan_id=plan_id, previous=previous, now=now)


async def version_after(tx: Tx, change: PlanChange, *, base: PlanVersion, now: datetime) -> PlanVersion:
    """The version after `base`, with what the change says otherwise; not stored."""
    return change_version(change, await _sold(tx, base.org_id, change, base), base=base, now=now)


async def override_version(
    tx: Tx, *, base: PlanVersion, overrides: PlanOverrides, now: datetime
) -> PlanVersion:
    """Store `base` as one subscription has it; `base` itself when nothing is otherwise.

    `base` may be a version with overrides: the new one then has both. NotFound `charge_not_found` or
    `fixed_charge_not_found` for what the version does not have. Whether the taxes exist, the caller checks.
    """
    sold = await _sold(tx, base.org_id, overrides, base)
    version = overridden_version(overrides, sold, base=base, now=now)
    if same_prices(version, base):
        return base
    await plan_store.add_version(tx, version)
    return version


async def set_metadata(
    tx: Tx, *, org_id: UUID, code: str, metadata: Mapping[str, Any] | None, merge: bool, now: datetime
) -> Mapping[str, str | None] | None:
    """What the merchant notes on the plan: replaced, or with `merge` changed key by key. Returns all of it."""
    plan = await _lock(tx, org_id, code)
    given = check_metadata(metadata)
    notes = {**(plan.metadata or {}), **(given or {})} if merge else given
    await plan_store.set_metadata(tx, org_id, plan.id, check_metadata(notes), now)
    return notes


async def delete_metadata_key(
    tx: Tx, *, org_id: UUID, code: str, key: str, now: datetime
) -> Mapping[str, str | None]:
    """Forget one note; NotFound `metadata_not_found` when the plan has none at all."""
    plan = await _lock(tx, org_id, code)
    if plan.metadata is None:
        raise NotFound("metadata not found", code="metadata_not_found")
    notes = {name: value for name, value in plan.metadata.items() if name != key}
    await plan_store.set_metadata(tx, org_id, plan.id, notes, now)
    return notes


def check_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, str | None] | None:
    """Keys to strings or null; InvalidInput when it is something else or too much."""
    if metadata is None:
        return None
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidInput(
            f"metadata has at most {MAX_METADATA_KEYS} keys", details={"metadata": ["too_many_keys"]}
        )
    for key, value in metadata.items():
        parse_id(key, "metadata")
        if len(key) > MAX_METADATA_KEY_LENGTH:
            raise InvalidInput(
                f"keys of metadata have at most {MAX_METADATA_KEY_LENGTH} characters",
                details={"metadata": ["key_too_long"]},
            )
        if value is not None and not isinstance(value, str):
            raise InvalidInput("values of metadata are strings", details={"metadata": ["invalid_type"]})
        if value is not None and len(value) > MAX_METADATA_VALUE_LENGTH:
            raise InvalidInput(
                f"values of metadata have at most {MAX_METADATA_VALUE_LENGTH} characters",
                details={"metadata": ["value_too_long"]},
            )
        parse_text(value, "metadata")
    return metadata


async def _lock(tx: Tx, org_id: UUID, code: str) -> Plan:
    plan = await plan_store.lock_plan(tx, org_id, parse_id(code, "code"))
    if plan is None:
        raise unknown_plan()
    return plan


async def _store(
    tx: Tx,
    previous: Plan,
    version: PlanVersion,
    terms: PlanTerms,
    *,
    name: str,
    description: str | None,
    now: datetime,
) -> Plan:
    org_id, plan_id, code = previous.org_id, previous.id, previous.code
    if (name, description) != (previous.name, previous.description):
        await plan_store.rename_plan(tx, org_id, plan_id, name=name, description=description, now=now)
    if not same_prices(version, previous.current):
        await plan_store.add_version(tx, version)
    await _set_rest(tx, terms, org_id=org_id, plan_id=plan_id, code=code, now=now)
    return await get_plan(tx, org_id, code)


async def _set_rest(
    tx: Tx, terms: PlanTerms, *, org_id: UUID, plan_id: UUID, code: str, now: datetime
) -> None:
    """What is not versioned."""
    if terms.entitlements is not None:
        await set_entitlements(
            tx, org_id=org_id, plan_code=code, wanted=terms.entitlements, replace=True, now=now
        )
    if terms.metadata is not UNSET:
        await plan_store.set_metadata(tx, org_id, plan_id, check_metadata(terms.metadata), now)


async def _sold(tx: Tx, org_id: UUID, terms: PlanTerms | PlanOverrides, previous: PlanVersion | None) -> Sold:
    """What the entries of a draft sell: named by code, by id, or by what the entry changes."""
    metrics: dict[object, Metric] = {}
    add_ons: dict[object, AddOn] = {}
    metric_ids = {
        charge.metric_id
        for charge in (previous.charges if previous else ())
        if any(one.id == charge.id and not _says_nothing(one) for one in terms.charges or ())
    }
    if isinstance(terms, PlanTerms):
        charges, fixed_charges = terms.charges or (), terms.fixed_charges or ()
        await require_active_systems(tx, org_id, [one.credit_system for one in terms.credit_grants or ()])
        codes = [one.metric_code for one in charges if one.metric_code]
        metrics.update(await metric_store.find_metrics(tx, org_id, codes))
        metric_ids |= {one.billable_metric_id for one in charges if one.billable_metric_id}
        add_on_codes = [one.add_on_code for one in fixed_charges if one.add_on_code]
        add_ons.update(await add_on_store.find_add_ons(tx, org_id, add_on_codes))
        for add_on_id in {one.add_on_id for one in fixed_charges if one.add_on_id}:
            if add_on := await add_on_store.find_add_on_by_id(tx, org_id, add_on_id):
                add_ons[add_on_id] = add_on
    if metric_ids:
        for metric in (await metric_store.find_metrics_by_id(tx, org_id, sorted(metric_ids))).values():
            metrics[metric.id] = metric
    return Sold(metrics, add_ons)


def _says_nothing(draft: ChargeDraft | ChargeOverride) -> bool:
    return isinstance(draft, ChargeDraft) and draft.says_nothing


def _check_code(code: str, plan: Plan) -> None:
    if code != plan.code:
        raise RuleBroken("a plan keeps its code", code="code_is_fixed", details={"code": ["value_is_fixed"]})


def _name(name: str, code: str) -> str:
    return parse_text(name, "name", max_bytes=255) or code


def _description(terms: PlanTerms, before: str | None) -> str | None:
    return parse_text(kept(terms.description, before, None), "description")
