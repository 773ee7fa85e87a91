"""What an invoice would be, in Core's form."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.api.core_invoices import invoice_json
from nozle_server.api.endpoint import CORE, Amount, Call, Endpoint, Example, Scope
from nozle_server.api.instants import read_instant
from nozle_server.api.shapes import ANY_OBJECT, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.periods import BillingTime
from nozle_server.core.text import parse_id
from nozle_server.coupons.drafts import CouponDraft, HowOften, Kind
from nozle_server.customers.drafts import CustomerDraft
from nozle_server.invoicing.model import Invoice
from nozle_server.workflows.preview_invoice import InvoicePreview, PreviewedCoupon, preview_invoice


class PreviewCustomer(msgspec.Struct):
    """A customer that exists, by `external_id`, or one who might."""

    external_id: str | None = None
    name: str | UnsetType | None = UNSET
    currency: str | UnsetType | None = UNSET
    timezone: str | UnsetType | None = UNSET
    tax_identification_number: str | UnsetType | None = UNSET
    address_line1: str | UnsetType | None = UNSET
    address_line2: str | UnsetType | None = UNSET
    city: str | UnsetType | None = UNSET
    zipcode: str | UnsetType | None = UNSET
    state: str | UnsetType | None = UNSET
    country: str | UnsetType | None = UNSET
    integration_customers: list[dict[str, Any]] | None = None


class PreviewCoupon(msgspec.Struct):
    """A coupon that exists, by `code`, or one on these terms."""

    code: str | None = None
    name: str | None = None
    coupon_type: Kind | None = None
    amount_cents: int | None = None
    amount_currency: str | None = None
    percentage_rate: Amount | None = None
    frequency: HowOften | None = None
    frequency_duration: int | None = None
    frequency_duration_remaining: int | None = None


class PreviewSubscriptions(msgspec.Struct):
    """Subscriptions that run; one of them may be ended, or put on another plan."""

    external_ids: list[str]
    plan_code: str | None = None
    terminated_at: str | None = None


class InvoicePreviewBody(msgspec.Struct):
    customer: PreviewCustomer | None = None
    plan_code: str | None = None
    billing_time: BillingTime | None = None
    subscription_at: str | None = None
    coupons: list[PreviewCoupon] | None = None
    subscriptions: PreviewSubscriptions | None = None
    billing_entity_code: str | None = None


async def preview(call: Call) -> object:
    body: InvoicePreviewBody = call.body
    running = body.subscriptions
    wanted = InvoicePreview(
        customer=_customer(body.customer) if body.customer else None,
        plan_code=None if body.plan_code is None else parse_id(body.plan_code, "plan_code"),
        billing_time=body.billing_time or BillingTime.CALENDAR,
        subscription_at=read_instant(body.subscription_at, "subscription_at"),
        coupons=[_coupon(one) for one in body.coupons or ()],
        external_ids=[parse_id(one, "external_ids") for one in running.external_ids] if running else (),
        new_plan_code=running.plan_code if running else None,
        terminated_at=read_instant(running.terminated_at, "terminated_at") if running else None,
    )

    async def look(invoice: Invoice) -> dict[str, object]:
        return await invoice_json(call, invoice)

    shown = await preview_invoice(
        call.tx, call.services.seams, org_id=call.org_id, wanted=wanted, now=call.now, look=look
    )
    # There is no such invoice: its id (clients want one) names nothing, and it has no number or file.
    none = dict.fromkeys(("sequential_id", "file_url"))
    return {"invoice": {**shown, **none, "number": "DRAFT", "status": "draft"}}


def _customer(body: PreviewCustomer) -> CustomerDraft:
    if body.integration_customers:
        raise InvalidInput("there are no integrations", details={"integration_customers": ["not_supported"]})
    named = parse_id(body.external_id, "external_id") if body.external_id else ""
    return CustomerDraft(
        external_id=named,
        name=body.name,
        currency=body.currency,
        timezone=body.timezone,
        tax_identification_number=body.tax_identification_number,
        address_line1=body.address_line1,
        address_line2=body.address_line2,
        city=body.city,
        zipcode=body.zipcode,
        state=body.state,
        country=body.country,
    )


def _coupon(body: PreviewCoupon) -> PreviewedCoupon:
    code = None if body.code is None else parse_id(body.code, "code")
    if body.coupon_type is None:
        return PreviewedCoupon(code=code, terms=None)
    terms = CouponDraft(
        code=code or "preview",
        name=body.name or code or "Preview",
        coupon_type=body.coupon_type,
        frequency=body.frequency or "once",
        expiration="no_expiration",
        amount_cents=body.amount_cents,
        amount_currency=body.amount_currency,
        percentage_rate=body.percentage_rate,
        frequency_duration=body.frequency_duration_remaining or body.frequency_duration,
    )
    return PreviewedCoupon(code=code, terms=terms)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/invoices/preview",
        handler=preview,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Preview an invoice",
        description="With `plan_code`, the first invoice of a customer who need not exist; with `subscriptions`, the next one"
        " of theirs, or the one that ending them or changing their plan makes. Nothing of it is kept.",
        tag="Invoices",
        body=InvoicePreviewBody,
        reply_schema=shape(invoice=ANY_OBJECT),
        errors=(404, 422),
        example=Example(
            request={
                "customer": {"external_id": "cust_123"},
                "plan_code": "pro",
                "billing_time": "anniversary",
                "coupons": [{"code": "startup_deal"}],
            },
            response={
                "invoice": {
                    "number": "DRAFT",
                    "status": "draft",
                    "total_amount_cents": 7900,
                    "currency": "USD",
                }
            },
        ),
    ),
)
