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

    `replace` also takes away what is not named. It reaches every subscriber with the next `can()`.
    """
    plan = await get_plan(tx, org_id, plan_code)
    planned = await plan_entitlements(tx, org_id, wanted)
    kept = {one.feature_id for one in planned}
    for code, value in wanted.items():
        if value is False:
            feature = await get_feature(tx, org_id, code)
            await plan_store.delete_entitlement(tx, org_id, plan.id, feature.id)
    if replace:
        for one in plan.entitlements:
            if one.feature_id not in kept:
                await plan_store.delete_entitlement(tx, org_id, plan.id, one.feature_id)
    for one in planned:
        await plan_store.set_entitlement(tx, org_id, plan.id, one.feature_id, one.privileges, now)
    return await get_plan(tx, org_id, plan_code)


async def delete_entitlement(tx: Tx, *, org_id: UUID, plan_code: str, feature_code: str) -> Entitlement:
    """Take one feature away from a plan."""
    plan = await get_plan(tx, org_id, plan_code)
    for one in plan.entitlements:
        if one.feature_code == feature_code:
            await plan_store.delete_entitlement(tx, org_id, plan.id, one.feature_id)
            return one
    raise NotFound("entitlement not found", code="entitlement_not_found")


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
            raise _invalid(feature.code, f"has no privilege {name!r}")
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


def _invalid(code: str, what: str) -> InvalidInput:
    return InvalidInput(f"entitlement {code} {what}", details={"entitlements": ["value_is_invalid"]})
