"""Use cases that change subscriptions."""

from datetime import datetime

from nozle_server.catalog.model import Plan
from nozle_server.core.errors import Conflict, InvalidInput, RuleBroken
from nozle_server.core.ids import new_id, to_text
from nozle_server.core.periods import BillingCalendar, BillingTime
from nozle_server.customers.model import Customer
from nozle_server.infra.database import Tx
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription


async def start_subscription(
    tx: Tx,
    *,
    customer: Customer,
    plan: Plan,
    timezone: str,
    billing_time: BillingTime,
    ending_at: datetime | None,
    now: datetime,
) -> tuple[Subscription, bool]:
    """Put a customer, whose row the caller holds, on a plan from `now` on; returns it and whether it is new.

    Already on the plan: that subscription, unchanged. On another plan: Conflict `subscription_exists`.
    """
    for running in await store.list_of_customer(tx, customer.org_id, customer.id):
        if running.status in (Status.ACTIVE, Status.PENDING) and (
            running.ending_at is None or running.ending_at > now
        ):
            if running.plan_id == plan.id:
                return running, False
            raise Conflict("the customer has a subscription to another plan", code="subscription_exists")
    if customer.currency is not None and customer.currency != plan.current.currency:
        raise RuleBroken("the customer is billed in another currency", code="currencies_does_not_match")
    if ending_at is not None and ending_at <= now:
        raise InvalidInput("ending_at lies in the past", details={"ending_at": ["value_is_out_of_range"]})
    subscription_id = new_id()
    period = BillingCalendar(now, plan.current.interval, billing_time, timezone).nth(0)
    subscription = Subscription(
        org_id=customer.org_id,
        id=subscription_id,
        external_id=to_text("sub", subscription_id),
        customer_id=customer.id,
        plan_id=plan.id,
        plan_version_id=plan.current.id,
        name=None,
        status=Status.ACTIVE,
        billing_time=billing_time,
        timezone=timezone,
        subscription_at=now,
        started_at=now,
        initial_started_at=now,
        ending_at=ending_at,
        terminated_at=None,
        canceled_at=None,
        current_period_start=period.start,
        current_period_end=period.end if ending_at is None else min(period.end, ending_at),
        billed_through=now,
        created_at=now,
    )
    await store.insert(tx, subscription)
    return subscription, True
