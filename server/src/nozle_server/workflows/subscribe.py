"""Put a customer on a plan: the subscription, its credits, its first invoice, and when it falls due."""

from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.queries import hold_plan
from nozle_server.core.periods import BillingTime
from nozle_server.customers.queries import lock_customer
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.model import BillingReason
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.operations import start_subscription
from nozle_server.workflows.bill import Billed, bill
from nozle_server.workflows.open_period import SUBSCRIPTION_STARTED, open_period


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
) -> Subscription:
    """Start the subscription now; already on that plan, it is returned as it is and nothing happens."""
    customer = await lock_customer(tx, org_id, customer_id)
    plan = await hold_plan(tx, org_id, plan_code)
    subscription, is_new = await start_subscription(
        tx,
        customer=customer,
        plan=plan,
        timezone=customer.timezone or organization_timezone,
        billing_time=billing_time,
        ending_at=ending_at,
        now=now,
    )
    if not is_new:
        return subscription
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    await open_period(tx, seams, subscription, version, now=now)
    await bill(tx, seams, org_id=org_id, billed=[Billed(subscription, BillingReason.STARTING)], at=now)
    await seams.change_bus.publish(
        tx,
        Change(org_id, SUBSCRIPTION_STARTED, str(subscription.id), {"customer_id": subscription.customer_id}),
    )
    return subscription
