"""Put a customer on a plan in the seed's way: one current subscription a customer (contract Decision 16)."""

from datetime import datetime
from uuid import UUID

from nozle_server.catalog.model import Plan, PlanVersion
from nozle_server.catalog.queries import get_version_of_plan, hold_plan
from nozle_server.core.errors import Conflict, RuleBroken
from nozle_server.core.periods import BillingTime
from nozle_server.customers.queries import lock_customer
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.start_subscription import start_subscription


async def subscribe(
    tx: Tx,
    seams: Seams,
    *,
    org_id: UUID,
    customer_id: str,
    plan_code: str,
    billing_time: BillingTime,
    organization_timezone: str,
    ending_at: datetime | None,
    now: datetime,
    plan_version: int | None = None,
    subscription_at: datetime | None = None,
) -> Subscription:
    """Start the subscription; already on that plan, it is returned as it is and nothing happens. On another plan: Conflict
    `subscription_exists`. On another version of it: RuleBroken `plan_version_change_not_supported`."""
    customer = await lock_customer(tx, org_id, customer_id)
    plan = await hold_plan(tx, org_id, plan_code)
    version = await chosen_version(tx, plan, plan_version)
    for running in await store.list_of_customer(tx, org_id, customer.id):
        if running.status in (Status.ACTIVE, Status.PENDING) and (
            running.ending_at is None or running.ending_at > now
        ):
            if running.plan_id != plan.id:
                raise Conflict("the customer has a subscription to another plan", code="subscription_exists")
            if plan_version is not None and running.plan_version_id != version.id:
                raise RuleBroken(
                    "the customer has another version of this plan", code="plan_version_change_not_supported"
                )
            return running
    return await start_subscription(
        tx,
        seams,
        customer=customer,
        version=version,
        timezone=customer.timezone or organization_timezone,
        billing_time=billing_time,
        subscription_at=subscription_at,
        ending_at=ending_at,
        now=now,
    )


async def chosen_version(tx: Tx, plan: Plan, number: int | None) -> PlanVersion:
    """A version of a plan by its number; the current one when none is asked for."""
    if number is None or number == plan.current.version:
        return plan.current
    return await get_version_of_plan(tx, plan, number)
