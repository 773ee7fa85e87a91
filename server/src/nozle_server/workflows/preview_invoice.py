"""What an invoice would be: everything is really done, for a customer who may not exist yet, and taken back again.

https://getlago.com/docs/guide/invoicing/previews
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

from nozle_server.catalog.queries import hold_plan
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.periods import BillingTime
from nozle_server.coupons import definitions
from nozle_server.coupons import store as coupons_store
from nozle_server.coupons.drafts import AppliedCouponDraft, CouponDraft
from nozle_server.coupons.operations import apply_coupon
from nozle_server.customers import store as customers_store
from nozle_server.customers.drafts import CustomerDraft
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import unknown_customer
from nozle_server.identity.queries import get_organization
from nozle_server.infra.database import Tx, rehearse
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing.model import Invoice
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.catch_up import catch_up
from nozle_server.workflows.change_plan import change_plan
from nozle_server.workflows.close_period import close_period, invoice_period
from nozle_server.workflows.end_subscription import end_now
from nozle_server.workflows.start_subscription import start_subscription
from nozle_server.workflows.upsert_customer import upsert_core_customer

T = TypeVar("T")

MAX_COUPONS = 20
MAX_SUBSCRIPTIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewedCoupon:
    """A coupon by its code, or, where there is none of that code, one that is made up on these terms."""

    code: str | None
    terms: CouponDraft | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePreview:
    """What to preview: the first invoice of a plan (`plan_code`), or the next invoice of subscriptions that run
    (`external_ids`), as they are, ended at `terminated_at`, or on another plan from now on."""

    customer: CustomerDraft | None
    plan_code: str | None
    billing_time: BillingTime
    subscription_at: datetime | None
    coupons: Sequence[PreviewedCoupon]
    external_ids: Sequence[str]
    new_plan_code: str | None
    terminated_at: datetime | None


async def preview_invoice(
    tx: Tx,
    seams: Seams,
    *,
    org_id: UUID,
    wanted: InvoicePreview,
    now: datetime,
    look: Callable[[Invoice], Awaitable[T]],
) -> T:
    """What `look` makes of the invoice while it is there. NotFound for an unknown plan, customer, subscription or coupon;
    InvalidInput on `terminated_at` outside the current period, or on `subscriptions` of several periods."""

    async def make_and_look() -> T:
        return await look(await _make(tx, seams, org_id, wanted, now))

    return await rehearse(tx, make_and_look)


async def _make(tx: Tx, seams: Seams, org_id: UUID, wanted: InvoicePreview, now: datetime) -> Invoice:
    if len(wanted.coupons) > MAX_COUPONS or len(wanted.external_ids) > MAX_SUBSCRIPTIONS:
        raise _invalid("base", "value_is_too_long", "there are too many coupons or subscriptions")
    running = [await _running(tx, org_id, one) for one in wanted.external_ids]
    customer = await _customer(tx, seams, org_id, wanted, running, now)
    for coupon in wanted.coupons:
        await _give_coupon(tx, org_id, customer, coupon, now)
    if not running:
        return await _first_invoice(tx, seams, customer, wanted, now)
    await customers_store.lock_by_id(tx, org_id, customer.id)
    current = [await _caught_up(tx, seams, one, now) for one in running]
    if wanted.terminated_at is not None:
        return await _ended(tx, seams, _only(current), wanted.terminated_at, now)
    if wanted.new_plan_code is not None:
        return await _changed(tx, seams, _only(current), wanted.new_plan_code, now)
    return await _next_invoice(tx, seams, current)


async def _first_invoice(
    tx: Tx, seams: Seams, customer: Customer, wanted: InvoicePreview, now: datetime
) -> Invoice:
    """Of what is paid in advance when the subscription begins; without any, of its first period."""
    if wanted.plan_code is None:
        raise _invalid("plan_code", "value_is_mandatory", "a plan or subscriptions must be named")
    plan = await hold_plan(tx, customer.org_id, wanted.plan_code)
    organization = await get_organization(tx, customer.org_id)
    held = await customers_store.lock_by_id(tx, customer.org_id, customer.id)
    begins = wanted.subscription_at or now
    subscription = await start_subscription(
        tx,
        seams,
        customer=held,
        version=plan.current,
        timezone=held.timezone or organization.timezone,
        billing_time=wanted.billing_time,
        external_id=f"preview-{uuid4()}",
        subscription_at=begins,
        now=max(now, begins),
    )
    first = await _newest_invoice(tx, subscription)
    return first or await _next_invoice(tx, seams, [subscription])


async def _next_invoice(tx: Tx, seams: Seams, subscriptions: Sequence[Subscription]) -> Invoice:
    """The invoice of the end of the period that runs, with the usage there is by now."""
    [end, *others] = {one.current_period_end for one in subscriptions}
    if others:
        raise _invalid(
            "subscriptions", "billing_periods_does_not_match", "their periods end at different times"
        )
    for one in subscriptions:
        await close_period(tx, seams, org_id=one.org_id, subscription_id=one.id, now=end)
    first = subscriptions[0]
    await invoice_period(tx, seams, org_id=first.org_id, subscription_id=first.id, ended_at=end)
    return await _made(tx, first)


async def _ended(
    tx: Tx, seams: Seams, subscription: Subscription, terminated_at: datetime, now: datetime
) -> Invoice:
    if not now <= terminated_at <= subscription.current_period_end:
        raise _invalid(
            "terminated_at", "invalid_timestamp", "it must lie between now and the end of the period"
        )
    if terminated_at == subscription.current_period_end:
        return await _next_invoice(tx, seams, [subscription])
    await end_now(tx, seams, subscription=subscription, now=terminated_at, invoice="generate")
    return await _made(tx, subscription)


async def _changed(
    tx: Tx, seams: Seams, subscription: Subscription, plan_code: str, now: datetime
) -> Invoice:
    """The invoice of an upgrade at once, or of the end of the period after which a cheaper plan takes over."""
    plan = await hold_plan(tx, subscription.org_id, plan_code)
    change = await change_plan(tx, seams, subscription=subscription, version=plan.current, now=now)
    if change.invoice is not None:
        return change.invoice
    return await _next_invoice(tx, seams, [change.subscription])


async def _running(tx: Tx, org_id: UUID, external_id: str) -> Subscription:
    for one in await subscriptions_store.list_of_external_id(tx, org_id, external_id):
        if one.status is Status.ACTIVE:
            return one
    raise NotFound("subscription not found", code="subscription_not_found")


async def _caught_up(tx: Tx, seams: Seams, subscription: Subscription, now: datetime) -> Subscription:
    """What runs by now under a subscription's external id: it may have ended, or been replaced, before its customer was
    held."""
    while True:
        current = await catch_up(
            tx, seams, org_id=subscription.org_id, subscription_id=subscription.id, now=now
        )
        if current.status is Status.ACTIVE:
            return current
        subscription = await _running(tx, subscription.org_id, subscription.external_id)


async def _customer(
    tx: Tx,
    seams: Seams,
    org_id: UUID,
    wanted: InvoicePreview,
    running: Sequence[Subscription],
    now: datetime,
) -> Customer:
    """The customer named, as described where it is described; the subscriptions' own where none is named."""
    if running:
        customers = {one.customer_id for one in running}
        customer = await customers_store.find_by_id(tx, org_id, customers.pop())
        named = wanted.customer.external_id if wanted.customer else None
        if customers or customer is None or named not in (None, "", customer.external_id):
            raise NotFound("subscription not found", code="subscription_not_found")
        return customer
    if wanted.customer is None:
        raise unknown_customer()
    draft = wanted.customer
    if not draft.external_id:
        draft.external_id = f"preview-{uuid4()}"
    return await upsert_core_customer(tx, seams, org_id=org_id, draft=draft, now=now)


async def _give_coupon(
    tx: Tx, org_id: UUID, customer: Customer, coupon: PreviewedCoupon, now: datetime
) -> None:
    code = coupon.code
    if code is None or await coupons_store.find_coupon(tx, org_id, code) is None:
        if coupon.terms is None:
            raise NotFound("coupon not found", code="coupon_not_found")
        code = (await definitions.create_coupon(tx, org_id=org_id, draft=coupon.terms, now=now)).code
    draft = AppliedCouponDraft(external_customer_id=customer.external_id, coupon_code=code)
    await apply_coupon(tx, org_id=org_id, draft=draft, now=now)


async def _made(tx: Tx, subscription: Subscription) -> Invoice:
    """The invoice that was just made for it; an empty one that is not wanted is there too, closed."""
    invoice = await _newest_invoice(tx, subscription)
    if invoice is None:
        raise _invalid("base", "no_invoice", "nothing would be invoiced")
    return invoice


async def _newest_invoice(tx: Tx, subscription: Subscription) -> Invoice | None:
    wanted = InvoiceFilter(subscription_ids=(subscription.id,))
    found, _ = await invoicing_store.list_invoices(tx, subscription.org_id, wanted, limit=1, offset=0)
    return found[0] if found else None


def _only(subscriptions: Sequence[Subscription]) -> Subscription:
    if len(subscriptions) != 1:
        raise _invalid(
            "subscriptions", "only_one_subscription_allowed", "only one can be ended or changed at a time"
        )
    return subscriptions[0]


def _invalid(field: str, code: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, details={field: [code]})
