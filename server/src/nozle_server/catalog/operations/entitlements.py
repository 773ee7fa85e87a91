"""What a plan entitles to: features, with a limit or other privileges."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import Entitlement, Feature, Plan, Privilege
from nozle_server.catalog.operations.features import LIMIT_PRIVILEGES
from nozle_server.catalog.queries import get_feature, get_plan
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.numbers import parse_amount
from nozle_server.infra.database import Tx


async def set_entitlements(
    tx: Tx, *, org_id: UUID, plan_code: str, wanted: Mapping[str, Any], replace: bool, now: datetime
) -> Plan:
    """Give a plan the features in `wanted`: code to privileges, True for none, False to take the feature away.

    `replace` takes away what is not named; else it stays, privileges of a named feature included. It reaches every
    subscriber with the next `can()`. NotFound `feature_not_found` or `privilege_not_found`.
    """
    plan = await get_plan(tx, org_id, plan_code)
    planned = await plan_entitlements(tx, org_id, wanted)
    kept = {one.feature_id for one in planned}
    before = {one.feature_id: one.privileges for one in plan.entitlements}
    for code, value in wanted.items():
        if value is False:
            feature = await get_feature(tx, org_id, code)
            await plan_store.delete_entitlement(tx, org_id, plan.id, feature.id)
    if replace:
        for feature_id in before.keys() - kept:
            await plan_store.delete_entitlement(tx, org_id, plan.id, feature_id)
    for one in planned:
        privileges = one.privileges if replace else {**before.get(one.feature_id, {}), **one.privileges}
        await plan_store.set_entitlement(tx, org_id, plan.id, one.feature_id, privileges, now)
    return await get_plan(tx, org_id, plan_code)


def get_entitlement(plan: Plan, feature_code: str) -> Entitlement:
    """The plan's right to a feature; NotFound `entitlement_not_found`."""
    for one in plan.entitlements:
        if one.feature_code == feature_code:
            return one
    raise NotFound("entitlement not found", code="entitlement_not_found")


async def delete_entitlement(tx: Tx, *, org_id: UUID, plan_code: str, feature_code: str) -> Entitlement:
    """Take one feature away from a plan."""
    plan = await get_plan(tx, org_id, plan_code)
    entitlement = get_entitlement(plan, feature_code)
    await plan_store.delete_entitlement(tx, org_id, plan.id, entitlement.feature_id)
    return entitlement


async def delete_entitlement_privilege(
    tx: Tx, *, org_id: UUID, plan_code: str, feature_code: str, privilege_code: str, now: datetime
) -> None:
    """Take a privilege's value away; NotFound `privilege_not_found` when the plan gives it none."""
    plan = await get_plan(tx, org_id, plan_code)
    entitlement = get_entitlement(plan, feature_code)
    if privilege_code not in entitlement.privileges:
        raise unknown_privilege()
    rest = {code: value for code, value in entitlement.privileges.items() if code != privilege_code}
    await plan_store.set_entitlement(tx, org_id, plan.id, entitlement.feature_id, rest, now)


async def plan_entitlements(tx: Tx, org_id: UUID, wanted: Mapping[str, Any]) -> list[Entitlement]:
    """The entitlements a mapping asks for, checked against each feature's privileges."""
    planned = []
    for code, value in wanted.items():
        if value is False:
            continue
        feature = await get_feature(tx, org_id, code)
        given = {} if value is True or value is None else value
        if not isinstance(given, Mapping):
            raise _invalid(code, "must be true, false or an object of privileges")
        planned.append(Entitlement(feature.id, feature.code, _check_privileges(feature, given)))
    return planned


def privileges_of(feature: Feature) -> tuple[Privilege, ...]:
    """What a plan may say about a feature: its own privileges, and the limit ones when it is metered."""
    own = feature.privileges
    return own + tuple(
        one for one in LIMIT_PRIVILEGES if feature.metric_id and one.code not in {p.code for p in own}
    )


def _check_privileges(feature: Feature, given: Mapping[str, Any]) -> dict[str, Any]:
    known = {one.code: one for one in privileges_of(feature)}
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise unknown_privilege()
        checked[name] = _check_value(feature, known[name], value)
    return checked


def _check_value(feature: Feature, privilege: Privilege, value: Any) -> Any:
    match privilege.value_type:
        case "number":
            if value is None:
                return None
            minimum = Decimal(0) if privilege.code == "limit" else None
            return parse_amount(value, privilege.code, minimum=minimum)
        case "boolean":
            ok = isinstance(value, bool)
        case "integer":
            ok = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18
        case "select":
            ok = isinstance(value, str) and value in privilege.config.get("select_options", ())
        case _:
            ok = isinstance(value, str) and len(value) <= 4096
    if not ok:
        raise _invalid(feature.code, f"privilege {privilege.code} is not of type {privilege.value_type}")
    return value


def unknown_privilege() -> NotFound:
    return NotFound("privilege not found", code="privilege_not_found")


def _invalid(code: str, what: str) -> InvalidInput:
    return InvalidInput(f"entitlement {code} {what}", details={"entitlements": ["value_is_invalid"]})
