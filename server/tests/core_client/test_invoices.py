"""Invoices, fees, credit notes and payments through the published client."""

import httpx
import pytest
from lago_python_client.models.add_on import AddOn
from lago_python_client.models.applied_coupon import AppliedCoupon
from lago_python_client.models.coupon import Coupon
from lago_python_client.models.credit_note import (
    CreditNote,
    CreditNoteEstimate,
    CreditNoteUpdate,
    Item,
    Items,
)
from lago_python_client.models.customer import Customer, CustomerBillingConfiguration
from lago_python_client.models.fee import Fee
from lago_python_client.models.invoice import (
    Invoice,
    InvoiceFee,
    InvoiceFeesList,
    InvoiceMetadata,
    InvoiceMetadataList,
    InvoiceResponse,
    OneOffInvoice,
)
from lago_python_client.models.payment import Payment
from lago_python_client.models.plan import Plan
from lago_python_client.models.subscription import Subscription
from lago_python_client.models.tax import Tax

from core_client.shop import Shop, children, listed, refused, shows

pytestmark = pytest.mark.database


@pytest.fixture
def acme(shop: Shop) -> str:
    """A customer in a country of 20 percent, and an add-on of 100 dollars."""
    shop.lago.taxes.create(Tax(name="VAT", code="vat", rate=20.0))
    shop.lago.customers.create(Customer(external_id="acme", name="Acme", currency="USD", tax_codes=["vat"]))
    shop.lago.add_ons.create(AddOn(name="Setup", code="setup", amount_cents=10_000, amount_currency="USD"))
    return "acme"


def one_off(shop: Shop, customer: str, units: float = 2) -> InvoiceResponse:
    fee = InvoiceFee(
        add_on_code="setup",
        unit_amount_cents=7500,
        units=units,
        description="By hand",
        invoice_display_name="Help",
    )
    wanted = OneOffInvoice(
        external_customer_id=customer, currency="USD", fees=InvoiceFeesList(__root__=[fee])
    )
    made = shop.lago.invoices.create(wanted)
    assert made is not None
    return made


def a_draft(shop: Shop, customer: str) -> InvoiceResponse:
    """An invoice of a period, which waits."""
    shop.lago.customers.create(
        Customer(
            external_id=customer, billing_configuration=CustomerBillingConfiguration(invoice_grace_period=3)
        )
    )
    shop.lago.plans.create(
        Plan(
            name="Pro",
            code="pro",
            interval="monthly",
            amount_cents=3100,
            amount_currency="USD",
            pay_in_advance=False,
        )
    )
    shop.lago.subscriptions.create(
        Subscription(external_customer_id=customer, plan_code="pro", external_id="team")
    )
    shop.turn("2026-02-01")
    [draft] = listed(shop.lago.invoices.find_all({"status": "draft"}), "invoices")
    return draft


def test_invoices(shop: Shop, acme: str) -> None:
    invoices = shop.lago.invoices
    made = one_off(shop, acme)
    shows(
        made,
        invoice_type="one_off",
        status="finalized",
        payment_status="pending",
        currency="USD",
        fees_amount_cents=15_000,
        sub_total_excluding_taxes_amount_cents=15_000,
        taxes_amount_cents=3000,
        sub_total_including_taxes_amount_cents=18_000,
        total_amount_cents=18_000,
        total_due_amount_cents=18_000,
        prepaid_credit_amount_cents=0,
        issuing_date="2026-01-15",
        payment_due_date="2026-01-15",
        payment_overdue=False,
        version_number=4,
    )
    shows(made.customer, external_id=acme)
    [tax] = made.applied_taxes.__root__
    shows(tax, tax_code="vat", tax_rate=20.0, amount_cents=3000, fees_amount_cents=15_000)
    [fee] = made.fees.__root__
    shows(fee, amount_cents=15_000, units="2.0", precise_unit_amount="75.0", description="By hand")
    shows(fee.item, type="add_on", code="setup", name="Setup", invoice_display_name="Help", item_type="AddOn")
    found = invoices.find(made.lago_id)
    # The link to the PDF is signed anew each time.
    assert found.copy(update={"file_url": None}) == made.copy(update={"file_url": None})
    options = {"external_customer_id": acme, "payment_status": "pending", "issuing_date_from": "2026-01-01"}
    [found] = listed(invoices.find_all(options), "invoices")
    shows(found, lago_id=made.lago_id, number=made.number)
    [found] = children(shop, shop.lago.customer_invoices, acme)
    shows(found, lago_id=made.lago_id)
    metadata = InvoiceMetadataList(__root__=[InvoiceMetadata(key="order", value="7")])
    changed = invoices.update(Invoice(payment_status="succeeded", metadata=metadata), made.lago_id)
    shows(changed, payment_status="succeeded")
    [kept] = changed.metadata.__root__
    shows(kept, key="order", value="7")
    with refused(404, "invoice_not_found"):
        invoices.find("019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0f")


def test_an_invoice_is_downloaded(shop: Shop, acme: str) -> None:
    made = shop.lago.invoices.download(one_off(shop, acme).lago_id)
    assert made is not None
    file = httpx.get(made.file_url)
    assert file.content.startswith(b"%PDF")


def test_drafts(shop: Shop, acme: str) -> None:
    invoices = shop.lago.invoices
    draft = a_draft(shop, acme)
    shows(draft, invoice_type="subscription", payment_due_date="2026-02-04")
    refreshed = invoices.refresh(draft.lago_id)
    shows(refreshed, status="draft", fees_amount_cents=draft.fees_amount_cents)
    done = invoices.finalize(draft.lago_id)
    shows(done, status="finalized", lago_id=draft.lago_id, total_amount_cents=draft.total_amount_cents)
    [period] = done.billing_periods.__root__
    shows(period, external_subscription_id="team", invoicing_reason="subscription_periodic")
    [subscription] = done.subscriptions.__root__
    shows(subscription, external_id="team", plan_code="pro")
    with refused(404):
        invoices.finalize("019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0f")


def test_void_and_dispute(shop: Shop, acme: str) -> None:
    invoices = shop.lago.invoices
    voided = invoices.void(one_off(shop, acme).lago_id)
    shows(voided, status="voided")
    assert voided.voided_at is not None
    credited = invoices.void_invoice(
        one_off(shop, acme).lago_id, {"generate_credit_note": True, "credit_amount": 9000, "refund_amount": 0}
    )
    shows(credited, status="voided")
    lost = invoices.lose_dispute(one_off(shop, acme).lago_id)
    assert lost.payment_dispute_lost_at is not None
    with refused(405):
        invoices.void(voided.lago_id)


def test_what_cannot_be_tried_again(shop: Shop, acme: str) -> None:
    """A finalized invoice is nothing to make again, and without a payment provider there is nothing to collect with."""
    made = one_off(shop, acme)
    with refused(405):
        shop.lago.invoices.retry(made.lago_id)
    with refused(422):
        shop.lago.invoices.payment_url(made.lago_id)
    with refused(422):
        shop.lago.invoices.retry_payment(made.lago_id)


def test_coupons_on_an_invoice(shop: Shop, acme: str) -> None:
    coupon = Coupon(
        name="Ten",
        code="ten",
        coupon_type="percentage",
        percentage_rate=10.0,
        frequency="forever",
        expiration="no_expiration",
    )
    shop.lago.coupons.create(coupon)
    shop.lago.applied_coupons.create(AppliedCoupon(external_customer_id=acme, coupon_code="ten"))
    draft = a_draft(shop, acme)
    made = shop.lago.invoices.find(draft.lago_id)
    [credit] = made.credits.__root__
    shows(credit, amount_cents=made.coupons_amount_cents, before_taxes=True)
    shows(credit.item, type="coupon", code="ten", name="Ten")
    assert made.coupons_amount_cents == (made.fees_amount_cents + 5) // 10
    shop.lago.invoices.finalize(draft.lago_id)
    [applied] = listed(shop.lago.applied_coupons.find_all(), "applied_coupons")
    [use] = applied.credits.__root__
    shows(use.invoice, lago_id=draft.lago_id)


def test_fees(shop: Shop, acme: str) -> None:
    fees = shop.lago.fees
    [made] = one_off(shop, acme).fees.__root__
    shows(made, amount_cents=15_000, taxes_amount_cents=3000, total_amount_cents=18_000, taxes_rate=20.0)
    found = fees.find(made.lago_id)
    shows(found, lago_id=made.lago_id, external_customer_id=acme, amount_cents=15_000, pay_in_advance=False)
    [tax] = found.applied_taxes.__root__
    shows(tax, tax_code="vat", amount_cents=3000)
    options = {"external_customer_id": acme, "fee_type": "add_on", "currency": "USD"}
    [listed_one] = listed(fees.find_all(options), "fees")
    shows(listed_one, lago_id=made.lago_id)
    with refused(405, "invoiceable_fee"):  # it is paid with its invoice
        fees.update(Fee(payment_status="succeeded"), made.lago_id)
    with refused(405):
        fees.destroy(made.lago_id)
    with refused(404, "fee_not_found"):
        fees.find("019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0f")


def test_payments(shop: Shop, acme: str) -> None:
    payments = shop.lago.payments
    invoice = one_off(shop, acme)
    wanted = Payment(
        invoice_id=invoice.lago_id, amount_cents=5000, reference="wire 7", paid_at="2026-01-15T09:00:00Z"
    )
    made = payments.create(wanted)
    shows(
        made,
        invoice_ids=[invoice.lago_id],
        invoice_numbers=[invoice.number],
        amount_cents=5000,
        amount_currency="USD",
        payment_status="succeeded",
        type="manual",
        reference="wire 7",
    )
    assert payments.find(made.lago_id) == made
    assert listed(payments.find_all({"external_customer_id": acme}), "payments") == [made]
    assert children(shop, shop.lago.customer_payments, acme) == [made]
    shows(
        shop.lago.invoices.find(invoice.lago_id), total_paid_amount_cents=5000, total_due_amount_cents=13_000
    )
    with refused(422):
        payments.create(wanted.copy(update={"amount_cents": 50_000}))


def test_credit_notes(shop: Shop, acme: str) -> None:
    notes = shop.lago.credit_notes
    invoice = one_off(shop, acme)
    shop.lago.payments.create(Payment(invoice_id=invoice.lago_id, amount_cents=18_000, reference="wire"))
    [fee] = invoice.fees.__root__
    items = Items(__root__=[Item(fee_id=fee.lago_id, amount_cents=5000)])
    estimate = notes.estimate(CreditNoteEstimate(invoice_id=invoice.lago_id, items=items))
    shows(
        estimate,
        lago_invoice_id=invoice.lago_id,
        invoice_number=invoice.number,
        currency="USD",
        max_creditable_amount_cents=6000,
        max_refundable_amount_cents=6000,
        taxes_amount_cents=1000,
        sub_total_excluding_taxes_amount_cents=5000,
    )
    [item] = estimate.items.__root__
    shows(item, lago_fee_id=fee.lago_id, amount_cents=5000)
    [tax] = estimate.applied_taxes.__root__
    shows(tax, tax_code="vat", amount_cents=1000, base_amount_cents=5000)
    wanted = CreditNote(
        invoice_id=invoice.lago_id,
        reason="product_unsatisfactory",
        description="Sorry",
        credit_amount_cents=4000,
        refund_amount_cents=2000,
        offset_amount_cents=0,
        items=items,
        metadata={"ticket": "7"},
    )
    made = notes.create(wanted)
    shows(
        made,
        lago_invoice_id=invoice.lago_id,
        invoice_number=invoice.number,
        reason="product_unsatisfactory",
        credit_status="available",
        refund_status="pending",
        currency="USD",
        total_amount_cents=6000,
        credit_amount_cents=4000,
        balance_amount_cents=4000,
        refund_amount_cents=2000,
        offset_amount_cents=0,
        taxes_amount_cents=1000,
        taxes_rate=20.0,
        sub_total_excluding_taxes_amount_cents=5000,
        coupons_adjustment_amount_cents=0,
        metadata={"ticket": "7"},
    )
    [item] = made.items.__root__
    shows(item, amount_cents=5000, amount_currency="USD")
    shows(item.fee, lago_id=fee.lago_id)
    [tax] = made.applied_taxes.__root__
    shows(tax, tax_code="vat", tax_rate=20.0, amount_cents=1000)
    shows(notes.find(made.lago_id), number=made.number, balance_amount_cents=4000)
    [found] = listed(notes.find_all({"external_customer_id": acme}), "credit_notes")
    shows(found, lago_id=made.lago_id)
    [found] = children(shop, shop.lago.customer_credit_notes, acme)
    shows(found, lago_id=made.lago_id)
    shows(notes.update(CreditNoteUpdate(refund_status="succeeded"), made.lago_id), refund_status="succeeded")
    downloaded = notes.download(made.lago_id)
    assert downloaded is not None
    assert httpx.get(downloaded.file_url).content.startswith(b"%PDF")
    voided = notes.void(made.lago_id)
    shows(voided, credit_status="voided", balance_amount_cents=0)


def test_metadata_of_a_credit_note(shop: Shop, acme: str) -> None:
    notes = shop.lago.credit_notes
    invoice = one_off(shop, acme)
    items = Items(__root__=[Item(fee_id=invoice.fees.__root__[0].lago_id, amount_cents=5000)])
    id = notes.create(
        CreditNote(invoice_id=invoice.lago_id, reason="other", credit_amount_cents=6000, items=items)
    ).lago_id
    assert notes.merge_metadata(id, {"a": "1", "b": None}) == {"a": "1", "b": None}
    assert notes.delete_metadata_key(id, "b") == {"a": "1"}
    assert notes.replace_metadata(id, {"only": "this"}) == {"only": "this"}
    assert not notes.delete_all_metadata(id)
    assert not notes.find(id).metadata


def test_what_is_late_or_lost_is_told_by_the_analytics(shop: Shop, acme: str) -> None:
    made = one_off(shop, acme)
    shop.turn("2026-02-10")
    [overdue] = shop.lago.overdue_balances.find_all({"currency": "USD"})["overdue_balances"]
    shows(
        overdue,
        amount_cents=18_000,
        currency="USD",
        month="2026-01-01T00:00:00.000Z",
        lago_invoice_ids=[made.lago_id],
    )
    months = shop.lago.gross_revenues.find_all({"currency": "USD", "months": 2})["gross_revenues"]
    assert sum(one.amount_cents or 0 for one in months) == 18_000
    collected = shop.lago.invoice_collections.find_all({"currency": "USD"})["invoice_collections"]
    assert [(one.payment_status, one.amount_cents) for one in collected if one.invoices_count] == [
        ("pending", 18_000)
    ]
    assert all(one.currency == "USD" for one in shop.lago.mrrs.find_all({"currency": "USD"})["mrrs"])
    assert shop.lago.invoiced_usages.find_all({"currency": "USD"})["invoiced_usages"] == []
