"""Use cases that only look at the catalog."""

from uuid import UUID

from nozle_server.catalog import add_on_store, feature_store, metric_store, plan_store
from nozle_server.catalog.model import AddOn, Feature, Metric, Plan, PlanVersion
from nozle_server.core.errors import NotFound
from nozle_server.core.text import parse_id
from nozle_server.infra.database import Tx


async def get_metric(tx: Tx, org_id: UUID, code: str) -> Metric:
    """The billable metric, by code; NotFound `billable_metric_not_found`."""
    metric = await metric_store.find_metric(tx, org_id, parse_id(code, "code"))
    if metric is None:
        raise unknown_metric()
    return metric


async def get_feature(tx: Tx, org_id: UUID, code: str) -> Feature:
    """The feature, by code; NotFound `feature_not_found`."""
    feature = await feature_store.find_feature(tx, org_id, parse_id(code, "code"))
    if feature is None:
        raise NotFound("feature not found", code="feature_not_found")
    return feature


async def get_add_on(tx: Tx, org_id: UUID, code: str) -> AddOn:
    """The add-on, by code; NotFound `add_on_not_found`."""
    add_on = await add_on_store.find_add_on(tx, org_id, parse_id(code, "code"))
    if add_on is None:
        raise unknown_add_on()
    return add_on


async def get_plan(tx: Tx, org_id: UUID, code: str) -> Plan:
    """The plan in its current version, by code; NotFound `plan_not_found`."""
    plan = await plan_store.find_plan(tx, org_id, parse_id(code, "plan_code"))
    if plan is None:
        raise unknown_plan()
    return plan


async def get_version_of_plan(tx: Tx, plan: Plan, number: int) -> PlanVersion:
    """A version of the plan; NotFound `plan_version_not_found`."""
    version = None
    if 0 < number < 2**31:
        version = await plan_store.find_version(tx, plan.org_id, plan.id, number)
    if version is None:
        raise NotFound("the plan has no such version", code="plan_version_not_found")
    return version


async def hold_plan(tx: Tx, org_id: UUID, code: str) -> Plan:
    """As `get_plan`; the plan stays as it is until the transaction ends."""
    plan = await plan_store.hold_plan(tx, org_id, parse_id(code, "plan_code"))
    if plan is None:
        raise unknown_plan()
    return plan


def unknown_metric() -> NotFound:
    return NotFound("billable metric not found", code="billable_metric_not_found")


def unknown_plan() -> NotFound:
    return NotFound("plan not found", code="plan_not_found")


def unknown_add_on() -> NotFound:
    return NotFound("add-on not found", code="add_on_not_found")
