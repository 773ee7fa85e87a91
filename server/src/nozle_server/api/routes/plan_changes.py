"""Change a plan, see what it would cost, cancel: the seed's form (contract 1.13 to 1.15)."""

from decimal import Decimal
from typing import Annotated

import msgspec

from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.routes.subscriptions import CUSTOMER_ALIASES
from nozle_server.api.shapes import ANY_OBJECT, BOOLEAN, INSTANT, INTEGER, NUMBER, STRING, optional, shape
from nozle_server.api.subscription_fields import CREDIT_NOTE_CHOICES, INVOICE_CHOICES, choice
from nozle_server.api.subscription_shapes import inner_json, standing_json
from nozle_server.catalog.model import PlanVersion
from nozle_server.catalog.queries import hold_plan
from nozle_server.core.errors import Conflict, InvalidInput, NotAllowed, NotFound, RuleBroken
from nozle_server.core.ids import to_text
from nozle_server.core.money import to_major
from nozle_server.core.text import parse_id, parse_text
from nozle_server.customers import store as customers_store
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import lock_customer
from nozle_server.identity.model import KeyKind
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.subscriptions.queries import find_current
from nozle_server.workflows.billing_status import plan_facts
from nozle_server.workflows.catch_up import catch_up
from nozle_server.workflows.change_plan import PlanChange, change_plan
from nozle_server.workflows.end_subscription import end_at_period_end, end_now
from nozle_server.workflows.preview_change import QUOTE_LIFETIME, check_quote, preview_change, quote_id
from nozle_server.workflows.subscribe import chosen_version

_ALIASES = {
    **CUSTOMER_ALIASES,
    "planCode": "plan_code",
    "planId": "plan_code",
    "plan_id": "plan_code",
    "targetPlanId": "plan_code",
    "target_plan_id": "plan_code",
    "subscriptionId": "subscription_id",
    "external_subscription_id": "subscription_id",
}


class ChangeBody(msgspec.Struct):
    """`subscription_id` (external) is needed only where the customer has several. With a `quote_id` of the preview the
    change is made only if it still costs what was shown."""

    customer_id: str
    plan_code: str
    subscription_id: str | None = None
    plan_version: Annotated[int, msgspec.Meta(ge=1)] | None = None
    quote_id: str | None = None


class PreviewBody(msgspec.Struct):
    customer_id: str
    plan_code: str
    subscription_id: str | None = None
    plan_version: Annotated[int, msgspec.Meta(ge=1)] | None = None


class CancelBody(msgspec.Struct):
    reason: str | None = None


class CancelQuery(msgspec.Struct):
    """`customer_id`, when given, must own the subscription. `credit_action` (credit, refund, offset or none) and
    `final_invoice_action` (generate or skip) are for `cancellation_policy=immediate`, which needs a secret key."""

    customer_id: str | None = None
    cancellation_policy: str | None = None
    credit_action: str | None = None
    refund_mode: str | None = None
    final_invoice_action: str | None = None


async def change(call: Call) -> object:
    body: ChangeBody = call.body
    customer, subscription, version = await _wanted(call, body)
    made = await change_plan(
        call.tx, call.services.seams, subscription=subscription, version=version, now=call.now
    )
    check_quote(parse_text(body.quote_id, "quote_id"), made, call.now)
    before = await plan_facts(call.tx, made.before)
    return {
        **await standing_json(call.tx, customer, call.now),
        "previous_plan_code": before.code,
        "direction": made.direction,
        "effective_at": made.effective_at,
        "invoice_id": to_text("inv", made.invoice.id) if made.invoice else None,
        "proration": _proration(made),
    }


async def preview(call: Call) -> object:
    _, subscription, version = await _wanted(call, call.body)
    shown = await preview_change(
        call.tx, call.services.seams, subscription=subscription, version=version, now=call.now
    )
    made = shown.change
    amounts = _proration(made)
    credit, debit = made.credit_cents, made.debit_cents
    expires_at = call.now + QUOTE_LIFETIME
    return {
        "quote_id": quote_id(made, expires_at),
        "quote_expires_at": expires_at,
        "currency": made.currency,
        "credit": _major(credit, made.currency),
        "debit": _major(debit, made.currency),
        "net": _major(debit - credit, made.currency),
        "nextBillingDate": shown.renewal_at,
        "credit_amount_cents": credit,
        "debit_amount_cents": debit,
        "net_amount_cents": amounts["net_cents"],
        "amount_due_now_cents": shown.due_now_cents,
        "amount_due_at_effective_cents": shown.due_at_effective_cents,
        "transition_direction": made.direction,
        "timing": "end_of_period" if made.effective_at > call.now else "immediate",
        "effective_at": made.effective_at,
        "renewal_at": shown.renewal_at,
    }


async def cancel(call: Call) -> object:
    query: CancelQuery = call.query
    reason = parse_text(call.body.reason, "reason", max_bytes=1024) if call.body else None
    policy = choice(query.cancellation_policy, "cancellation_policy", ("end_of_period", "immediate"))
    credit, invoice = _settlement(query, policy)
    if policy == "immediate" and call.principal.kind is not KeyKind.SECRET:
        raise NotAllowed("ending a subscription at once needs a secret key", code="secret_key_required")
    subscription, customer = await _cancelled(call, parse_id(call.path["id"], "id"), query.customer_id)
    ended = await _cancel(call, subscription, policy, reason, credit, invoice)
    plan = await plan_facts(call.tx, ended)
    return {
        "id": ended.external_id,
        "subscription_id": ended.external_id,
        "customer_id": customer.external_id,
        "status": "canceled",
        "ends_at": ended.terminated_at or ended.ending_at or ended.canceled_at,
        "cancel_at_period_end": ended.cancel_at_period_end and ended.status is Status.ACTIVE,
        "reason": ended.cancellation_reason,
        "subscription": {**inner_json(ended, plan.code), "terminated_at": ended.terminated_at},
    }


async def _cancel(
    call: Call,
    subscription: Subscription,
    policy: str | None,
    reason: str | None,
    credit: str | None,
    invoice: str | None,
) -> Subscription:
    seams = call.services.seams
    if subscription.status in (Status.TERMINATED, Status.CANCELED):
        return subscription
    if policy == "immediate" or subscription.status is Status.PENDING:
        return await end_now(
            call.tx,
            seams,
            subscription=subscription,
            now=call.now,
            reason=reason,
            credit_note=credit,
            invoice=invoice,
        )
    return await end_at_period_end(call.tx, seams, subscription=subscription, reason=reason, now=call.now)


async def _cancelled(call: Call, external_id: str, customer_id: str | None) -> tuple[Subscription, Customer]:
    """The subscription that a cancellation names, held with its customer and caught up with."""
    named = await store.list_of_external_id(call.tx, call.org_id, external_id)
    found = min(named, key=_cancellable_first, default=None)
    if found is None:
        raise unknown_subscription()
    customer = await customers_store.lock_by_id(call.tx, call.org_id, found.customer_id)
    if customer_id is not None and customer.external_id != customer_id:
        raise unknown_subscription()
    call.require_customer(customer.id)
    if found.status in (Status.TERMINATED, Status.CANCELED):
        return found, customer
    caught_up = await catch_up(
        call.tx, call.services.seams, org_id=call.org_id, subscription_id=found.id, now=call.now
    )
    if caught_up.status is Status.TERMINATED:
        # Its end came before the call; what took its place, if anything, is what is meant.
        again = await store.list_of_external_id(call.tx, call.org_id, external_id)
        return min(again, key=_cancellable_first), customer
    return caught_up, customer


def _cancellable_first(subscription: Subscription) -> int:
    order = (Status.ACTIVE, Status.PENDING, Status.TERMINATED, Status.CANCELED)
    return order.index(subscription.status)


def _settlement(query: CancelQuery, policy: str | None) -> tuple[str | None, str | None]:
    action = choice(query.credit_action, "credit_action", (*CREDIT_NOTE_CHOICES[:3], "none"))
    invoice = choice(query.final_invoice_action, "final_invoice_action", INVOICE_CHOICES)
    if choice(query.refund_mode, "refund_mode", ("prorated", "full")) == "full":
        raise RuleBroken("only what was not used is refunded", code="not_supported")
    if policy != "immediate" and (action not in (None, "none") or invoice == "skip"):
        raise InvalidInput(
            "what is used up to the end of the period is billed, and nothing is left to credit",
            details={"credit_action": ["value_is_invalid"]},
        )
    return ("skip" if action == "none" else action), invoice


async def _wanted(call: Call, body: ChangeBody | PreviewBody) -> tuple[Customer, Subscription, PlanVersion]:
    """Customer (held), subscription and version of the plan that a change names."""
    customer = await lock_customer(call.tx, call.org_id, body.customer_id)
    plan = await hold_plan(call.tx, call.org_id, parse_id(body.plan_code, "plan_code"))
    version = await chosen_version(call.tx, plan, body.plan_version)
    return customer, await subscription_of(call, customer, body.subscription_id), version


async def subscription_of(call: Call, customer: Customer, external_id: str | None) -> Subscription:
    """The subscription that a customer means: the one named, else the current one. NotFound, or Conflict
    `subscription_not_active`."""
    if external_id is None:
        current = await find_current(call.tx, call.org_id, customer.id, call.now)
        if current is None or current.status not in (Status.ACTIVE, Status.PENDING):
            raise Conflict("subscription not active", code="subscription_not_active")
        return current
    named = await store.list_of_external_id(call.tx, call.org_id, parse_id(external_id, "subscription_id"))
    mine = [one for one in named if one.customer_id == customer.id]
    if not mine:
        raise unknown_subscription()
    return min(mine, key=_cancellable_first)


def unknown_subscription() -> NotFound:
    return NotFound("subscription not found", code="subscription_not_found")


def _proration(made: PlanChange) -> dict[str, object]:
    return {
        "credit_cents": made.credit_cents,
        "debit_cents": made.debit_cents,
        "net_cents": made.debit_cents - made.credit_cents,
        "currency": made.currency,
    }


def _major(cents: int, currency: str) -> Decimal:
    return to_major(Decimal(cents), currency)


_CHANGED = shape(
    customer_id=STRING,
    status=STRING,
    plan_code=optional(STRING),
    pending_plan=optional(STRING),
    previous_plan_code=STRING,
    effective_at=INSTANT,
    invoice_id=optional(STRING),
    proration=shape(credit_cents=INTEGER, debit_cents=INTEGER, net_cents=INTEGER, currency=STRING),
)
_CHANGE_EXAMPLE = Example(
    request={"customer_id": "cust_123", "plan_code": "pro"},
    response={
        "customer_id": "cust_123",
        "status": "active",
        "plan_code": "pro",
        "previous_plan_code": "starter",
        "pending_plan": None,
        "effective_at": "2026-01-16T00:00:00Z",
        "invoice_id": "inv_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
        "proration": {"credit_cents": 1497, "debit_cents": 5110, "net_cents": 3613, "currency": "USD"},
    },
)

ENDPOINTS = (
    *(
        Endpoint(
            method="POST",
            path=path,
            handler=change,
            scope=Scope.ANY_KEY,
            mounts=SEED,
            summary="Change a customer's plan",
            description=(
                f"The same as `{alias}`. A plan that costs at least as much a year takes effect at once, with a credit for"
                " the unused rest of the old one and a charge for the rest of the new one; a cheaper one when the billing"
                " period ends (`pending_plan`). The plan that the customer has already: nothing happens, and a change that"
                " was to come is taken back."
            ),
            tag="Subscriptions",
            body=ChangeBody,
            body_aliases=_ALIASES,
            reply_schema=_CHANGED,
            errors=(404, 409, 422),
            idempotent=True,
            customer_data=CustomerData("body", "customer_id", "subscriptions:write"),
            example=_CHANGE_EXAMPLE,
        )
        for path, alias in (
            ("/billing/upgrade", "/subscriptions/change"),
            ("/subscriptions/change", "/billing/upgrade"),
        )
    ),
    Endpoint(
        method="POST",
        path="/subscriptions/preview",
        handler=preview,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="See what a change of plan would cost",
        description=(
            "Works the change out to the cent and makes nothing. `credit`, `debit` and `net` are in the currency's major unit."
            " The quote holds for five minutes; sent with the change, the change is refused when it would cost otherwise."
        ),
        tag="Subscriptions",
        body=PreviewBody,
        body_aliases=_ALIASES,
        reply_schema=shape(
            quote_id=STRING,
            currency=STRING,
            credit=NUMBER,
            debit=NUMBER,
            net=NUMBER,
            nextBillingDate=INSTANT,
            credit_amount_cents=INTEGER,
            debit_amount_cents=INTEGER,
            net_amount_cents=INTEGER,
            amount_due_now_cents=INTEGER,
            amount_due_at_effective_cents=INTEGER,
            transition_direction=optional(STRING),
            timing=STRING,
            effective_at=INSTANT,
            renewal_at=INSTANT,
        ),
        errors=(404, 409, 422),
        customer_data=CustomerData("body", "customer_id", "billing:read"),
        example=Example(
            request={"customer_id": "cust_123", "plan_code": "pro"},
            response={
                "quote_id": "quo_6481d1f0a2c00_0c5d1e9a7b3f4e2d8c6b5a4938271605",
                "currency": "USD",
                "credit": Decimal("14.97"),
                "debit": Decimal("51.10"),
                "net": Decimal("36.13"),
                "nextBillingDate": "2026-02-01T00:00:00Z",
                "credit_amount_cents": 1497,
                "debit_amount_cents": 5110,
                "net_amount_cents": 3613,
                "amount_due_now_cents": 3613,
                "amount_due_at_effective_cents": 0,
                "transition_direction": "upgrade",
                "timing": "immediate",
                "effective_at": "2026-01-16T00:00:00Z",
                "renewal_at": "2026-02-01T00:00:00Z",
            },
        ),
    ),
    Endpoint(
        method="DELETE",
        path="/subscriptions/{id}",
        handler=cancel,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="Cancel a subscription",
        description=(
            "At the end of the billing period, until when access continues; a repeat moves nothing. With"
            " `cancellation_policy=immediate` (secret key) at once: what is paid and not used is credited."
        ),
        tag="Subscriptions",
        query=CancelQuery,
        query_aliases=CUSTOMER_ALIASES,
        body=CancelBody,
        body_optional=True,
        reply_schema=shape(
            id=STRING,
            subscription_id=STRING,
            status=STRING,
            ends_at=optional(INSTANT),
            cancel_at_period_end=BOOLEAN,
            reason=optional(STRING),
            subscription=ANY_OBJECT,
        ),
        errors=(404, 409, 422),
        idempotent=True,
        customer_data=CustomerData("handler", "", "subscriptions:write"),
        example=Example(
            request={"reason": "too expensive"},
            response={
                "id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                "subscription_id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                "status": "canceled",
                "ends_at": "2026-02-01T00:00:00Z",
                "cancel_at_period_end": True,
                "reason": "too expensive",
                "subscription": {
                    "external_id": "sub_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                    "status": "active",
                    "ending_at": "2026-02-01T00:00:00Z",
                },
            },
        ),
    ),
)
