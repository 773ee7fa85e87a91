"""Use cases that only look at the catalog."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import add_on_store, credit_system_store, feature_store, metric_store, plan_store
from nozle_server.catalog.credit_model import CreditRate, CreditSystem
from nozle_server.catalog.model import AddOn, Feature, Metric, Plan, PlanVersion
from nozle_server.core.errors import InvalidInput, NotFound, RuleBroken
from nozle_server.core.text import parse_id
from nozle_server.infra.database import Tx


async def get_metric(tx: Tx, org_id: UUID, code: str) -> Metric:
    """The billable metric, by code; NotFound `billable_metric_not_found`."""
    metric = await metric_store.find_metric(tx, org_id, parse_id(code, "code"))
    if metric is None:
        raise unknown_metric()
    return metric


async def lock_metric(tx: Tx, org_id: UUID, code: str) -> Metric:
    """As `get_metric`; the metric stays as it is until the transaction ends."""
    metric = await metric_store.lock_metric(tx, org_id, parse_id(code, "code"))
    if metric is None:
        raise unknown_metric()
    return metric


async def get_credit_system(tx: Tx, org_id: UUID, code: str) -> CreditSystem:
    """The credit system, active or archived, by code; NotFound `credit_system_not_found`."""
    try:
        system = await credit_system_store.find_system(tx, org_id, parse_id(code, "credit_system"))
    except InvalidInput:  # no system has such a code
        system = None
    if system is None:
        raise unknown_credit_system()
    return system


async def get_rate_versions(
    tx: Tx, org_id: UUID, system_code: str, metric_code: str
) -> tuple[CreditSystem, Metric, Sequence[CreditRate]]:
    """Every version of what a metric costs in a system, in order of time; NotFound `credit_rate_not_found` when it never
    had a rate."""
    system = await get_credit_system(tx, org_id, system_code)
    metric = await get_metric(tx, org_id, metric_code)
    versions = await credit_system_store.versions_of_rate(tx, org_id, system.id, metric.id)
    if not versions:
        raise unknown_rate()
    return system, metric, versions


async def find_rate(
    tx: Tx, org_id: UUID, credit_system_code: str | None, metric_id: UUID, at: datetime
) -> CreditRate | None:
    """What a metric's units cost at an instant; None when they have no rate then.

    In the system named, or else in the one active system that rates the metric; RuleBroken `credit_system_ambiguous` when
    several do, NotFound `credit_system_not_found` for a name that is none.
    """
    if credit_system_code is not None:
        await get_credit_system(tx, org_id, credit_system_code)
    rates = await credit_system_store.rates_at(tx, org_id, credit_system_code, metric_id, at)
    if len(rates) > 1:
        raise RuleBroken("several credit systems rate this metric: name one", code="credit_system_ambiguous")
    return rates[0] if rates else None


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


def unknown_credit_system() -> NotFound:
    return NotFound("credit system not found", code="credit_system_not_found")


def unknown_rate() -> NotFound:
    return NotFound("the metric has no rate in this credit system", code="credit_rate_not_found")


def unknown_plan() -> NotFound:
    return NotFound("plan not found", code="plan_not_found")


def unknown_add_on() -> NotFound:
    return NotFound("add-on not found", code="add_on_not_found")
