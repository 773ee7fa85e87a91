"""How a subscription looks in the seed's answers (contract 1.12, 1.15) and in Core's (4.12)."""

from datetime import datetime, timedelta

from nozle_server.customers.model import Customer
from nozle_server.infra.database import Tx
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.subscriptions.proration import is_in_trial
from nozle_server.subscriptions.queries import find_current, find_pending
from nozle_server.workflows.billing_status import PlanFacts, plan_facts

_FIELDS = (
    *("id", "subscription_id", "plan", "plan_code", "plan_slug", "plan_name", "planName", "tier", "interval"),
    *("amount_cents", "amount_currency", "current_period_start", "current_period_end", "next_billing_date"),
    *("nextBillingDate", "ends_at", "trial_ends_at", "pending_plan", "subscription"),
)


async def standing_json(tx: Tx, customer: Customer, now: datetime) -> dict[str, object]:
    """Where a customer stands: outside the words of the dashboards, inside `subscription` Core's."""
    subscription = await find_current(tx, customer.org_id, customer.id, now)
    invoices, _ = await invoicing_store.list_invoices(
        tx,
        customer.org_id,
        InvoiceFilter(customer_id=customer.id, statuses=("finalized",)),
        limit=1,
        offset=0,
    )
    customers = {
        "customer_id": customer.external_id,
        "payment_status": invoices[0].payment_status if invoices else None,
    }
    if subscription is None:
        nothing = dict.fromkeys(_FIELDS)
        return {
            **customers,
            **nothing,
            "status": "none",
            "subscription_status": "none",
            "cancel_at_period_end": False,
        }
    plan = await plan_facts(tx, subscription)
    pending = await find_pending(tx, subscription)
    pending_plan = (await plan_facts(tx, pending)).code if pending else None
    return {**customers, **_standing(subscription, plan, pending_plan, now)}


def _standing(
    subscription: Subscription, plan: PlanFacts, pending_plan: str | None, now: datetime
) -> dict[str, object]:
    runs = subscription.status is Status.ACTIVE and subscription.is_active_at(now)
    status = _status(subscription, now, runs=runs)
    period = subscription.period_at(now, plan.version.usage_interval) if runs else None
    start = period.start if period else subscription.current_period_start
    end = period.end if period else subscription.current_period_end
    next_billing = end if runs else None
    return {
        "id": subscription.external_id,
        "subscription_id": subscription.external_id,
        "status": status,
        "subscription_status": status,
        "plan": plan.code,
        "plan_code": plan.code,
        "plan_slug": plan.code,
        "plan_name": plan.name,
        "planName": plan.name,
        "tier": plan.code,
        "interval": plan.version.interval,
        "amount_cents": plan.version.amount_cents,
        "amount_currency": plan.version.currency,
        "current_period_start": start,
        "current_period_end": end,
        "next_billing_date": next_billing,
        "nextBillingDate": next_billing,
        "cancel_at_period_end": subscription.cancel_at_period_end and runs,
        "ends_at": subscription.terminated_at or subscription.ending_at,
        "trial_ends_at": subscription.trial_ends_at,
        "pending_plan": pending_plan,
        "subscription": inner_json(subscription, plan.code),
    }


def _status(subscription: Subscription, now: datetime, *, runs: bool) -> str:
    if runs:
        return "trialing" if is_in_trial(subscription, now) else "active"
    return "pending" if subscription.status is Status.PENDING else "canceled"


def inner_json(subscription: Subscription, plan_code: str) -> dict[str, object]:
    """The few members of Core's object that the seed's answers show."""
    return {
        "id": subscription.external_id,
        "external_id": subscription.external_id,
        "status": subscription.status,
        "plan_code": plan_code,
        "started_at": subscription.started_at,
        "ending_at": subscription.ending_at,
    }


async def core_json(
    tx: Tx, subscription: Subscription, external_customer_id: str, now: datetime
) -> dict[str, object]:
    """Core's subscription object."""
    plan = await plan_facts(tx, subscription)
    previous = next_one = None
    pending = await store.find_successor(tx, subscription.org_id, subscription.id)
    if subscription.previous_subscription_id is not None:
        before = await store.get(tx, subscription.org_id, subscription.previous_subscription_id)
        previous = (await plan_facts(tx, before)).code
    if pending is not None:
        next_one = (await plan_facts(tx, pending)).code
    waits = pending is not None and pending.status is Status.PENDING
    begun = subscription.status in (Status.ACTIVE, Status.TERMINATED)
    at = max(now, subscription.started_at)
    runs = subscription.status is Status.ACTIVE and subscription.is_active_at(at)
    period = subscription.period_at(at, plan.version.usage_interval) if runs else None
    start = period.start if period else subscription.current_period_start
    end = period.end if period else subscription.current_period_end
    if end != (subscription.terminated_at or subscription.ending_at):
        end -= timedelta(seconds=1)  # Core shows the last second of a period; an end within one as it is
    return {
        "lago_id": subscription.id,
        "nozle_id": subscription.id,
        "external_id": subscription.external_id,
        "lago_customer_id": subscription.customer_id,
        "external_customer_id": external_customer_id,
        "name": subscription.name,
        "plan_code": plan.code,
        "plan_amount_cents": plan.version.amount_cents,
        "plan_amount_currency": plan.version.currency,
        "plan_version": plan.version.version,
        "status": subscription.status,
        "billing_time": subscription.billing_time,
        "subscription_at": subscription.subscription_at,
        "started_at": subscription.started_at if begun else None,
        "trial_ended_at": subscription.trial_ended_at,
        "ending_at": subscription.ending_at,
        "terminated_at": subscription.terminated_at,
        "canceled_at": subscription.canceled_at if subscription.status is Status.CANCELED else None,
        "created_at": subscription.created_at,
        "previous_plan_code": previous,
        "next_plan_code": next_one,
        "downgrade_plan_date": pending.started_at.date() if pending is not None and waits else None,
        "current_billing_period_started_at": start,
        "current_billing_period_ending_at": end,
        "on_termination_credit_note": subscription.on_termination_credit_note,
        "on_termination_invoice": subscription.on_termination_invoice,
        "progressive_billing_disabled": False,
        "consolidate_invoice": True,
        "activation_rules": [],
        "payment_method": {"payment_method_id": None, "payment_method_type": "provider"},
    }
