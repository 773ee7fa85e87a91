"""Subscriptions in Core's form (contract 4.12): several a customer, under external ids that the caller gives."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.api.endpoint import BOTH, CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.plan_forms import version_object
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.api.subscription_fields import (
    CREDIT_NOTE_CHOICES,
    INVOICE_CHOICES,
    billing_time_of,
    choice,
    optional_instant,
)
from nozle_server.api.subscription_shapes import core_json
from nozle_server.catalog import plan_store
from nozle_server.catalog.drafts import PlanOverrides, all_tax_codes
from nozle_server.catalog.model import PlanVersion
from nozle_server.catalog.operations.plans import override_version
from nozle_server.catalog.queries import hold_plan
from nozle_server.core.errors import InvalidInput, NotFound, RuleBroken, not_supported
from nozle_server.core.text import parse_id, parse_text
from nozle_server.customers import store as customers_store
from nozle_server.customers.model import CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.customers.queries import get_customer, lock_customer
from nozle_server.identity.queries import get_organization
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.subscriptions.store import SubscriptionFilter
from nozle_server.taxes.queries import require_taxes
from nozle_server.workflows.catch_up import catch_up
from nozle_server.workflows.change_plan import change_plan
from nozle_server.workflows.end_subscription import end_now, set_ending
from nozle_server.workflows.start_subscription import check_ending, start_subscription
from nozle_server.workflows.update_subscription import move_start, use_version

_STATUSES = frozenset((*Status, "incomplete"))


class SubscriptionDraft(msgspec.Struct, kw_only=True):
    """`subscription_at` (default: now) may lie in the future or in the past. The external id of a subscription that the
    customer has: its plan changes."""

    external_customer_id: str
    plan_code: str
    external_id: str
    name: str | None = None
    billing_time: str = "calendar"
    subscription_at: object = None
    ending_at: object = None
    plan_overrides: PlanOverrides | None = None
    progressive_billing_disabled: bool | None = None
    # Of Lago's, without effect here: refused.
    billing_entity_code: object = None
    purchase_order_number: object = None
    payment_method: object = None
    consolidate_invoice: object = None
    invoice_custom_section: object = None
    activation_rules: object = None


_UNSUPPORTED = (
    "billing_entity_code",
    "purchase_order_number",
    "payment_method",
    "consolidate_invoice",
    "invoice_custom_section",
    "activation_rules",
)


class CreateBody(msgspec.Struct):
    subscription: SubscriptionDraft


class SubscriptionChanges(msgspec.Struct, kw_only=True):
    """What is left out stays. `ending_at` null takes an end back, a cancellation's too."""

    name: str | UnsetType | None = UNSET
    ending_at: object = UNSET
    subscription_at: object = UNSET
    plan_overrides: PlanOverrides | UnsetType | None = UNSET
    on_termination_credit_note: str | UnsetType | None = UNSET
    on_termination_invoice: str | UnsetType | None = UNSET
    progressive_billing_disabled: bool | UnsetType | None = UNSET


class UpdateBody(msgspec.Struct):
    subscription: SubscriptionChanges
    status: str | None = None


class StatusQuery(msgspec.Struct):
    status: str | None = None


class TerminateQuery(msgspec.Struct):
    """`status=pending` calls a pending one off instead of ending the active one."""

    status: str | None = None
    on_termination_credit_note: str | None = None
    on_termination_invoice: str | None = None


class SubscriptionsQuery(PageQuery):
    """Active ones unless `status[]` says otherwise; `overridden` tells those with plan overrides from the others."""

    external_customer_id: str | None = None
    plan_code: str | None = None
    overridden: bool | None = None
    currency: str | None = None
    status: list[str] = msgspec.field(default_factory=list)


async def create(call: Call) -> object:
    draft: SubscriptionDraft = call.body.subscription
    _refuse_unsupported(draft.progressive_billing_disabled)
    for field in _UNSUPPORTED:
        if getattr(draft, field):
            raise not_supported(field)
    external_id = parse_id(draft.external_id, "external_id")
    name = parse_text(draft.name, "name", max_bytes=255) or None
    plan_code = parse_id(draft.plan_code, "plan_code")
    changes = CustomerChanges(external_id=parse_id(draft.external_customer_id, "external_customer_id"))
    await upsert_customer(call.tx, org_id=call.org_id, changes=changes, now=call.now)
    customer = await lock_customer(call.tx, call.org_id, changes.external_id)
    plan = await hold_plan(call.tx, call.org_id, plan_code)
    ending_at = optional_instant(draft.ending_at, "ending_at")
    known = await store.list_of_external_id(call.tx, call.org_id, external_id)
    open_ones = [one for one in known if one.status in (Status.ACTIVE, Status.PENDING)]
    if any(one.customer_id != customer.id for one in open_ones):
        raise _taken()
    version = await _version(call, plan.current, draft.plan_overrides)
    if open_ones:
        current = min(open_ones, key=lambda one: one.status is Status.PENDING)
        made = await change_plan(
            call.tx, call.services.seams, subscription=current, version=version, now=call.now, name=name
        )
        return await _rendered(call, made.subscription)
    organization = await get_organization(call.tx, call.org_id)
    subscription = await start_subscription(
        call.tx,
        call.services.seams,
        customer=customer,
        version=version,
        timezone=customer.timezone or organization.timezone,
        billing_time=billing_time_of(draft.billing_time),
        external_id=external_id,
        name=name,
        subscription_at=optional_instant(draft.subscription_at, "subscription_at"),
        ending_at=ending_at,
        now=call.now,
    )
    return await _rendered(call, subscription)


async def update(call: Call) -> object:
    changes: SubscriptionChanges = call.body.subscription
    if changes.progressive_billing_disabled is not UNSET:
        _refuse_unsupported(changes.progressive_billing_disabled)
    subscription = await hold_subscription(call, _only_or(call.body.status))
    seams = call.services.seams
    if subscription.status not in (Status.ACTIVE, Status.PENDING):
        raise unknown_subscription()
    subscription = replace(
        subscription,
        name=subscription.name
        if changes.name is UNSET
        else parse_text(changes.name, "name", max_bytes=255) or None,
        on_termination_credit_note=subscription.on_termination_credit_note
        if changes.on_termination_credit_note is UNSET
        else choice(changes.on_termination_credit_note, "on_termination_credit_note", CREDIT_NOTE_CHOICES),
        on_termination_invoice=subscription.on_termination_invoice
        if changes.on_termination_invoice is UNSET
        else choice(changes.on_termination_invoice, "on_termination_invoice", INVOICE_CHOICES) or "generate",
    )
    await store.update(call.tx, subscription)
    if changes.plan_overrides is not UNSET and changes.plan_overrides is not None:
        base = await plan_store.get_plan_version(call.tx, call.org_id, subscription.plan_version_id)
        version = await _version(call, base, changes.plan_overrides)
        subscription = await use_version(
            call.tx, seams, subscription=subscription, version=version, now=call.now
        )
    if changes.subscription_at is not UNSET:
        at = optional_instant(changes.subscription_at, "subscription_at")
        if at is not None:
            subscription = await move_start(call.tx, seams, subscription=subscription, at=at, now=call.now)
    if changes.ending_at is not UNSET:
        ending_at = optional_instant(changes.ending_at, "ending_at")
        check_ending(ending_at, subscription.started_at, call.now)
        subscription = await set_ending(
            call.tx, seams, subscription=subscription, ending_at=ending_at, now=call.now
        )
    return await _rendered(call, subscription)


async def terminate(call: Call) -> object:
    query: TerminateQuery = call.query
    credit = choice(query.on_termination_credit_note, "on_termination_credit_note", CREDIT_NOTE_CHOICES)
    invoice = choice(query.on_termination_invoice, "on_termination_invoice", INVOICE_CHOICES)
    wanted = Status.PENDING if query.status == "pending" else Status.ACTIVE
    subscription = await hold_subscription(call, (wanted,))
    ended = await end_now(
        call.tx,
        call.services.seams,
        subscription=subscription,
        now=call.now,
        credit_note=credit,
        invoice=invoice,
    )
    return await _rendered(call, ended)


async def show(call: Call) -> object:
    status = call.query.status or Status.ACTIVE
    if status not in _STATUSES:
        raise InvalidInput("status is not one we have", details={"status": ["value_is_invalid"]})
    return await _rendered(call, await named_subscription(call, (status,)))


async def index(call: Call) -> object:
    return await _listed(call, call.query.external_customer_id)


async def index_of_customer(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.path["external_customer_id"])
    return await _listed(call, customer.external_id)


async def _listed(call: Call, external_customer_id: str | None) -> object:
    query: SubscriptionsQuery = call.query
    if not _STATUSES.issuperset(query.status):
        raise InvalidInput("status is not one we have", details={"status": ["value_is_invalid"]})
    rows, total = await store.list_filtered(
        call.tx,
        call.org_id,
        SubscriptionFilter(
            external_customer_id=external_customer_id,
            plan_code=query.plan_code,
            overridden=query.overridden,
            currency=query.currency,
            statuses=tuple(query.status or ["active"]),
        ),
        limit=query.per_page,
        offset=query.offset,
    )
    shown = [await core_json(call.tx, one, customer, call.now) for one, customer in rows]
    return {"subscriptions": shown, "meta": page_meta(query, total)}


async def _rendered(call: Call, subscription: Subscription) -> dict[str, object]:
    customer = await customers_store.find_by_id(call.tx, call.org_id, subscription.customer_id)
    assert customer is not None, "a subscription has a customer"
    shown = await core_json(call.tx, subscription, customer.external_id, call.now)
    plan = await plan_store.find_plan(call.tx, call.org_id, str(shown["plan_code"]))
    if plan is not None and plan.id == subscription.plan_id:
        version = await plan_store.get_plan_version(call.tx, call.org_id, subscription.plan_version_id)
        shown["plan"] = await version_object(call.tx, plan, version)
    return {"subscription": shown}


async def named_subscription(call: Call, statuses: Sequence[str] | None) -> Subscription:
    """The newest subscription of the path's external id in one of these statuses; without any, an active one first."""
    named = await store.list_of_external_id(
        call.tx, call.org_id, parse_id(call.path["external_id"], "external_id")
    )
    if statuses is None and len(named) > 1:
        statuses = (Status.ACTIVE,)
    found = next((one for one in named if statuses is None or one.status in statuses), None)
    if found is None:
        raise unknown_subscription()
    return found


async def hold_subscription(call: Call, statuses: Sequence[str] | None) -> Subscription:
    """As `_found`, held with its customer and caught up with."""
    found = await named_subscription(call, statuses)
    await customers_store.lock_by_id(call.tx, call.org_id, found.customer_id)
    await catch_up(call.tx, call.services.seams, org_id=call.org_id, subscription_id=found.id, now=call.now)
    again = await named_subscription(call, statuses)
    held = await store.lock(call.tx, call.org_id, again.id)
    assert held is not None, "subscriptions are never deleted"
    return held


def _only_or(status: str | None) -> Sequence[str] | None:
    """Of several with one external id the active one is meant, or the pending one that is to follow it."""
    return (Status.PENDING,) if status == "pending" else None


async def _version(call: Call, base: PlanVersion, overrides: PlanOverrides | None) -> PlanVersion:
    if overrides is None:
        return base
    overrides.refuse_unsupported()
    await require_taxes(call.tx, call.org_id, sorted(all_tax_codes(overrides)))
    return await override_version(call.tx, base=base, overrides=overrides, now=call.now)


def _refuse_unsupported(progressive_billing_disabled: bool | UnsetType | None) -> None:
    if progressive_billing_disabled is True:
        raise RuleBroken(
            "progressive billing follows the plan's thresholds",
            code="not_supported",
            details={"progressive_billing_disabled": ["not_supported"]},
        )


def _taken() -> InvalidInput:
    return InvalidInput(
        "another customer has a subscription with this external_id",
        details={"external_id": ["value_already_exist"]},
    )


def unknown_subscription() -> NotFound:
    return NotFound("subscription not found", code="subscription_not_found")


_OBJECT: dict[str, object] = {
    "lago_id": "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e",
    "external_id": "team_42",
    "external_customer_id": "cust_123",
    "plan_code": "pro",
    "status": "active",
    "billing_time": "calendar",
    "subscription_at": "2026-01-15T10:30:00Z",
    "started_at": "2026-01-15T10:30:00Z",
    "ending_at": None,
}
_ONE = shape(subscription=ANY_OBJECT)
_MANY = shape(subscriptions=array(ANY_OBJECT), meta=PAGE_META)
_MANY_EXAMPLE = Example(response={"subscriptions": [_OBJECT], "meta": page_meta(PageQuery(), 1)})

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/subscriptions",
        handler=index,
        scope=Scope.SECRET,
        mounts=BOTH,
        summary="List subscriptions",
        description="Active ones unless `status[]` says otherwise.",
        tag="Subscriptions",
        query=SubscriptionsQuery,
        reply_schema=_MANY,
        example=_MANY_EXAMPLE,
    ),
    Endpoint(
        method="GET",
        path="/customers/{external_customer_id}/subscriptions",
        handler=index_of_customer,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List a customer's subscriptions",
        tag="Subscriptions",
        query=SubscriptionsQuery,
        reply_schema=_MANY,
        errors=(404,),
        example=_MANY_EXAMPLE,
    ),
    Endpoint(
        method="POST",
        path="/subscriptions",
        handler=create,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Assign a plan to a customer",
        description=(
            "Starts a subscription now, later or in the past. With the external id of one that the customer has, its plan"
            " changes: an upgrade at once, a downgrade when the period ends. A customer that is unknown is made."
        ),
        tag="Subscriptions",
        body=CreateBody,
        reply_schema=_ONE,
        errors=(404, 409, 422),
        idempotent=True,
        example=Example(
            request={
                "subscription": {
                    "external_customer_id": "cust_123",
                    "plan_code": "pro",
                    "external_id": "team_42",
                    "subscription_at": "2026-01-15T10:30:00Z",
                }
            },
            response={"subscription": _OBJECT},
        ),
    ),
    Endpoint(
        method="GET",
        path="/subscriptions/{external_id}",
        handler=show,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a subscription",
        description="The active one of this external id, or the latest in the `status` asked for.",
        tag="Subscriptions",
        query=StatusQuery,
        reply_schema=_ONE,
        errors=(404,),
        example=Example(response={"subscription": _OBJECT}),
    ),
    Endpoint(
        method="PUT",
        path="/subscriptions/{external_id}",
        handler=update,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Change a subscription",
        description=(
            'What is left out stays. `ending_at` null takes back an end. `status` "pending" means the one that is to follow.'
        ),
        tag="Subscriptions",
        body=UpdateBody,
        reply_schema=_ONE,
        errors=(404, 409, 422),
        idempotent=True,
        example=Example(
            request={"subscription": {"name": "Team 42", "ending_at": "2026-12-31T00:00:00Z"}},
            response={"subscription": {**_OBJECT, "name": "Team 42", "ending_at": "2026-12-31T00:00:00Z"}},
        ),
    ),
    Endpoint(
        method="DELETE",
        path="/subscriptions/{external_id}",
        handler=terminate,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Terminate a subscription",
        description=(
            "At once. `on_termination_credit_note` (credit, refund, offset, skip) says what becomes of what was paid and not"
            " used, `on_termination_invoice` (generate, skip) whether the last invoice is made."
        ),
        tag="Subscriptions",
        query=TerminateQuery,
        reply_schema=_ONE,
        errors=(404, 409, 422),
        idempotent=True,
        example=Example(response={"subscription": {**_OBJECT, "status": "terminated"}}),
    ),
)
