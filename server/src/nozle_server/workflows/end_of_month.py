"""Close and invoice the periods of many subscriptions that end at one instant, as `close_period` does one by one.

What all of them need is read by a few statements beforehand, what they write is written together at the end
(`infra/batch.py`). Who has more to be looked at, a coupon or a wallet say, has it read and held as always. A customer
is in a batch once: what one invoice leaves of its credits, the next one in line has to read anew.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import metric_store, plan_store
from nozle_server.catalog.model import Charge, Metric
from nozle_server.coupons import applied_store
from nozle_server.customers import store as customers_store
from nozle_server.customers.model import Customer
from nozle_server.infra import due
from nozle_server.infra.batch import batch, foresee
from nozle_server.infra.database import Tx
from nozle_server.infra.due import DueItem
from nozle_server.infra.seams import Seams
from nozle_server.infra.usage_store import ForeseenUsage, Window
from nozle_server.invoicing import late_store
from nozle_server.invoicing.credit_notes import store as credit_notes_store
from nozle_server.invoicing.lines import usage_query, usage_window
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Subscription
from nozle_server.taxes import store as taxes_store
from nozle_server.wallets import store as wallets_store
from nozle_server.workflows.bill import ended_period
from nozle_server.workflows.close_period import INVOICE_PERIOD, close_period, invoice_period


async def close_periods(tx: Tx, seams: Seams, items: Sequence[DueItem]) -> Sequence[DueItem]:
    """Close the periods that these items of one organization and instant name; returns the items that are done."""
    org_id, now = items[0].org_id, items[0].due_at
    ids = [item.subject_id for item in items]
    subscriptions = await subscriptions_store.get_many(tx, org_id, ids, lock=True)
    customers = await customers_store.get_many(tx, org_id, [one.customer_id for one in subscriptions])
    followed = await subscriptions_store.with_successor(tx, org_id, ids)
    async with batch(tx):
        for customer in customers:
            foresee(tx, customers_store.find_by_id, customer, org_id, customer.id)
        for one in subscriptions:
            foresee(tx, subscriptions_store.lock, one, org_id, one.id)
            if one.id not in followed:
                foresee(tx, subscriptions_store.find_successor, None, org_id, one.id)
        for subscription_id in ids:
            await close_period(tx, seams, org_id=org_id, subscription_id=subscription_id, now=now)
    return items


async def invoice_periods(tx: Tx, seams: Seams, items: Sequence[DueItem]) -> Sequence[DueItem]:
    """Invoice the periods that these items of one organization and instant name; returns the items that are done: all
    up to the first whose customer has an invoice among them already."""
    org_id, ended_at = items[0].org_id, items[0].due_at
    found = await subscriptions_store.get_many(tx, org_id, [item.subject_id for item in items])
    by_id = {one.id: one for one in found}
    subscriptions: dict[UUID, Subscription] = {}
    for item in items:
        one = by_id[item.subject_id]
        if one.customer_id in subscriptions:
            break
        subscriptions[one.customer_id] = one
    customers = await customers_store.get_many(tx, org_id, list(subscriptions), lock=True)
    async with batch(tx):
        await _foresee_billing(tx, org_id, customers, list(subscriptions.values()), ended_at)
        usage = await _foresee_usage(tx, seams, org_id, list(subscriptions.values()), ended_at)
        for one in subscriptions.values():
            foreseen = replace(seams, usage_store=usage)
            await invoice_period(tx, foreseen, org_id=org_id, subscription_id=one.id, ended_at=ended_at)
    return items[: len(subscriptions)]


async def _foresee_billing(
    tx: Tx, org_id: UUID, customers: Sequence[Customer], subscriptions: Sequence[Subscription], at: datetime
) -> None:
    """What bills read of each customer, who is held, and subscription."""
    ids = [one.id for one in subscriptions]
    customer_ids = [one.id for one in customers]
    others = await subscriptions_store.others_of_customers(tx, org_id, ids)
    other_ids = [other for some in others.values() for other in some]
    together = await due.still_due(tx, org_id, INVOICE_PERIOD, at, other_ids) if other_ids else set()
    late = await late_store.subscriptions_with_late(tx, org_id, ids)
    for one in subscriptions:
        foresee(tx, subscriptions_store.get, one, org_id, one.id)
        if together.isdisjoint(others.get(one.id, ())):
            foresee(tx, subscriptions_store.ids_billed_with, [], org_id, one.id)
        if one.id not in late:
            foresee(tx, late_store.list_late, [], org_id, one.id, lock=True)
    coupons = await applied_store.customers_with_coupons(tx, org_id, customer_ids)
    taxes = await taxes_store.customers_with_taxes(tx, org_id, customer_ids)
    credit = await credit_notes_store.customers_with_credit(tx, org_id, customer_ids)
    wallets = await wallets_store.customers_with_wallets(tx, org_id, customer_ids)
    currency = {one.customer_id: await _currency(tx, one) for one in subscriptions}
    for customer in customers:
        foresee(tx, customers_store.lock_by_id, customer, org_id, customer.id)
        foresee(tx, customers_store.find_by_id, customer, org_id, customer.id)
        if customer.id not in coupons:
            foresee(tx, applied_store.active_of_customer, [], org_id, customer.id, until=at, lock=True)
        if customer.id not in taxes:
            foresee(tx, taxes_store.taxes_of_customer, (), org_id, customer.id)
        if customer.id not in wallets:
            foresee(tx, wallets_store.list_active, [], org_id, customer.id)
    for one in subscriptions:
        # One that ends may be credited what was paid in advance just before its last invoice uses it.
        if (
            one.customer_id not in credit
            and one.terminated_at is None
            and together.isdisjoint(others.get(one.id, ()))
        ):
            foresee(
                tx, credit_notes_store.lock_available, [], org_id, one.customer_id, currency[one.customer_id]
            )


async def _currency(tx: Tx, subscription: Subscription) -> str:
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    return version.currency


async def _foresee_usage(
    tx: Tx, seams: Seams, org_id: UUID, subscriptions: Sequence[Subscription], at: datetime
) -> ForeseenUsage:
    """The usage of all of them, asked by one query a charge."""
    usage = ForeseenUsage(seams.usage_store)
    chains = await subscriptions_store.chains(tx, org_id, [one.id for one in subscriptions])
    # A charge keeps its id from version to version of its plan, and not its price.
    windows: dict[tuple[UUID, UUID], list[Window]] = defaultdict(list)
    charges: dict[tuple[UUID, UUID], tuple[Charge, Metric]] = {}
    for one in subscriptions:
        version = await plan_store.get_plan_version(tx, org_id, one.plan_version_id)
        period = ended_period(one, version.usage_interval, at)
        for charge in version.charges:
            metric = await metric_store.get_metric_by_id(tx, org_id, charge.metric_id)
            charges[version.id, charge.id] = charge, metric
            earlier = chains.get(one.id, ()) if metric.recurring else ()
            windows[version.id, charge.id].append(usage_window(one, period, earlier))
    for key, (charge, metric) in charges.items():
        await usage.foresee(tx, org_id, usage_query(charge, metric, windows[key]))
    return usage
