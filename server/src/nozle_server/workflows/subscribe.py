"""Put a customer on a plan: the subscription, its credits, its first invoice, and when it falls due."""

from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.catalog.queries import hold_plan
from nozle_server.core.periods import BillingTime, Period
from nozle_server.credits.model import GrantSource
from nozle_server.credits.operations import grant_credits
from nozle_server.customers.queries import lock_customer
from nozle_server.infra import due
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.lines import fee_line
from nozle_server.invoicing.model import BillingReason, InvoiceSubscription
from nozle_server.invoicing.operations import issue_invoice
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.operations import start_subscription

PERIOD_END = "period_end"
SUBSCRIPTION_STARTED = "subscription.started"


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
    if version.pay_in_advance:
        period = Period(subscription.current_period_start, subscription.current_period_end)
        draft = InvoiceDraft(
            org_id=org_id,
            customer_id=subscription.customer_id,
            currency=version.currency,
            lines=(fee_line(subscription, version, plan.name, period, now),),
            subscriptions=(
                InvoiceSubscription(subscription.id, BillingReason.STARTING, period.start, period.end),
            ),
        )
        await issue_invoice(tx, seams, draft, now=now)
    await seams.change_bus.publish(
        tx,
        Change(org_id, SUBSCRIPTION_STARTED, str(subscription.id), {"customer_id": subscription.customer_id}),
    )
    return subscription


async def open_period(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, *, now: datetime
) -> None:
    """What the beginning of the current period brings: the plan's credits, and a date for its end."""
    start, end = subscription.current_period_start, subscription.current_period_end
    if version.credits > 0:
        await grant_credits(
            tx,
            seams.change_bus,
            org_id=subscription.org_id,
            customer_id=subscription.customer_id,
            amount=version.credits,
            source=GrantSource.PLAN,
            now=now,
            expires_at=end,
            # One grant a subscription and period, however often this runs.
            reference=f"plan:{subscription.id}:{start.isoformat()}",
            description="Credits included in the plan",
        )
    await due.schedule(
        tx, org_id=subscription.org_id, kind=PERIOD_END, subject_id=subscription.id, due_at=end, now=now
    )
