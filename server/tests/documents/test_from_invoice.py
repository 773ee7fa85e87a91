import doctest
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from documents.builders import text_of
from nozle_server.customers.model import Customer
from nozle_server.documents import from_invoice
from nozle_server.documents.from_credit_note import credit_note_document
from nozle_server.documents.from_invoice import SubscriptionName, days_of, invoice_document, walk_of
from nozle_server.documents.model import Days, InvoiceDocument
from nozle_server.documents.render import render_credit_note, render_invoice
from nozle_server.identity.model import Mode, Organization
from nozle_server.invoicing.credit_notes.model import CreditNote, CreditNoteItem, CreditStatus, Reason
from nozle_server.invoicing.model import (
    AppliedTax,
    BillingReason,
    CreditKind,
    Invoice,
    InvoiceCredit,
    InvoiceLine,
    InvoiceStatus,
    InvoiceSubscription,
    InvoiceType,
    LineKind,
)

ORG, CUSTOMER, SUBSCRIPTION, BEFORE = uuid4(), uuid4(), uuid4(), uuid4()
START, END = datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 31, 23, tzinfo=UTC)
NAMES = {SUBSCRIPTION: SubscriptionName("Pro", "sub_acme")}


def an_organization(**details: Any) -> Organization:
    return Organization(
        id=ORG,
        name="Hooli",
        mode=Mode.TEST,
        default_currency="EUR",
        timezone="Europe/Berlin",
        publishable_key_access="open",
        show_margin_to_publishable_keys=False,
        workspace_channel_for_publishable_keys=False,
        margin_enforcement="observe",
        min_margin_percent=None,
        test_now=None,
        created_at=START,
        net_payment_term=0,
        invoice_grace_period=0,
        finalize_zero_invoices=True,
        document_number_prefix="HOO",
        details=details,
    )


def a_customer(name: str | None = "Acme", **details: Any) -> Customer:
    return Customer(
        org_id=ORG,
        id=CUSTOMER,
        external_id="cust_1",
        sequential_id=1,
        name=name,
        email="ap@acme.example",
        currency="EUR",
        timezone=None,
        details=details,
        net_payment_term=None,
        invoice_grace_period=None,
        finalize_zero_invoices=None,
        created_at=START,
        updated_at=START,
    )


def a_line(**values: Any) -> InvoiceLine:
    usual: dict[str, Any] = {
        "org_id": ORG,
        "id": uuid4(),
        "kind": LineKind.CHARGE,
        "customer_id": CUSTOMER,
        "currency": "EUR",
        "description": "Tokens",
        "units": Decimal(100),
        "exact_amount_cents": Decimal(1000),
        "amount_cents": 1000,
        "created_at": END,
        "subscription_id": SUBSCRIPTION,
        "period_start": START,
        "period_end": END,
    }
    return InvoiceLine(**{**usual, **values})


def an_invoice(**values: Any) -> Invoice:
    usual: dict[str, Any] = {
        "org_id": ORG,
        "id": uuid4(),
        "sequential_id": 7,
        "number": "HOO-001-007",
        "customer_id": CUSTOMER,
        "invoice_type": InvoiceType.SUBSCRIPTION,
        "status": InvoiceStatus.FINALIZED,
        "payment_status": "pending",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "fees_amount_cents": 1000,
        "progressive_billing_credit_amount_cents": 0,
        "coupons_amount_cents": 0,
        "sub_total_excluding_taxes_amount_cents": 1000,
        "taxes_amount_cents": 0,
        "taxes_rate": Decimal(0),
        "sub_total_including_taxes_amount_cents": 1000,
        "credit_notes_amount_cents": 0,
        "prepaid_credit_amount_cents": 0,
        "total_amount_cents": 1000,
        "total_paid_amount_cents": 0,
        "net_payment_term": 0,
        "issuing_date": date(2026, 2, 1),
        "payment_due_date": date(2026, 2, 1),
        "finalize_at": None,
        "created_at": END,
        "updated_at": END,
        "finalized_at": END,
        "lines": (a_line(),),
        "subscriptions": (InvoiceSubscription(SUBSCRIPTION, BillingReason.PERIODIC, START, END),),
    }
    return Invoice(**{**usual, **values})


def document_of(invoice: Invoice, **changes: Any) -> InvoiceDocument:
    values: dict[str, Any] = {"subscriptions": NAMES, "invoice_numbers": {BEFORE: "HOO-001-006"}, **changes}
    customer = values.pop("customer", a_customer())
    organization = values.pop("organization", an_organization())
    return invoice_document(invoice, customer, organization, **values)


def test_days_are_those_of_the_customers_calendar_and_the_last_is_included() -> None:
    document = document_of(an_invoice())
    january = Days(date(2026, 1, 1), date(2026, 1, 31))
    assert document.days == january
    (section,) = document.sections
    assert (section.title, section.reference, section.days) == ("Pro", "sub_acme", january)
    assert section.lines[0].days == january


def test_an_empty_period_is_its_day() -> None:
    assert days_of(START, START, "Europe/Berlin") == Days(date(2026, 1, 1), date(2026, 1, 1))


@pytest.mark.parametrize(
    ("status", "invoice_type", "kind", "watermark"),
    [
        (InvoiceStatus.FINALIZED, InvoiceType.SUBSCRIPTION, "Invoice", None),
        (InvoiceStatus.FINALIZED, InvoiceType.CREDIT, "Advance invoice", None),
        (InvoiceStatus.DRAFT, InvoiceType.SUBSCRIPTION, "Draft invoice", "DRAFT"),
        (InvoiceStatus.VOIDED, InvoiceType.CREDIT, "Voided invoice", "VOID"),
        (InvoiceStatus.FAILED, InvoiceType.SUBSCRIPTION, "Failed invoice", "FAILED"),
    ],
)
def test_only_a_final_invoice_looks_like_one(
    status: InvoiceStatus, invoice_type: InvoiceType, kind: str, watermark: str | None
) -> None:
    document = document_of(an_invoice(status=status, invoice_type=invoice_type))
    assert (document.kind, document.watermark) == (kind, watermark)


def test_adjustments_stand_apart_and_name_the_closed_period_and_its_invoice() -> None:
    late = a_line(
        amount_cents=5,
        adjusts_invoice_id=BEFORE,
        period_start=datetime(2025, 11, 30, 23, tzinfo=UTC),
        period_end=START,
    )
    document = document_of(an_invoice(lines=(late, a_line())))
    assert [section.title for section in document.sections] == ["Pro", "Adjustments of closed periods"]
    (line,) = document.sections[1].lines
    assert line.adjusts == "Late usage of 1 – 31 Dec 2025, invoice HOO-001-006, sub_acme"
    assert line.days is None


def test_lines_without_a_subscription_have_a_section_of_their_own() -> None:
    add_on = a_line(
        kind=LineKind.ADD_ON, subscription_id=None, description="Setup", period_start=None, period_end=None
    )
    document = document_of(an_invoice(lines=(a_line(), add_on), invoice_type=InvoiceType.ONE_OFF))
    assert [section.title for section in document.sections] == ["Pro", ""]
    assert document.sections[1].lines[0].days is None


def a_step(
    kind: str = "units", units: int = 100, price: str = "10", flat: int = 0, **more: Any
) -> dict[str, Any]:
    # As they come back from the database: whole numbers are int.
    amount = Decimal(units) * Decimal(price) + flat
    return {
        "kind": kind,
        "units": units,
        "unit_price_cents": Decimal(price),
        "flat_cents": flat,
        "amount_cents": amount,
        "label": "",
        **more,
    }


@pytest.mark.parametrize(
    ("step", "price"),
    [
        (a_step(), "0.1"),
        (a_step(price="0.0000000001"), "0.000000000001"),
        (
            {
                "kind": "fixed_fee",
                "days": 31,
                "whole_days": 31,
                "full_amount_cents": 9900,
                "amount_cents": 9900,
            },
            "99",
        ),
    ],
)
def test_one_price_for_all_units_stands_on_the_line(step: dict[str, Any], price: str) -> None:
    assert walk_of(a_line(steps=(step,))) == (Decimal(price), ())


@pytest.mark.parametrize(
    ("step", "label"),
    [
        (a_step("tier", label="11-20", flat=300), "Tier 11-20, and 3.00 flat"),
        (a_step("free_units", price="0"), "Free units"),
        (a_step("something_new"), "something new"),
        (
            {
                "kind": "fixed_fee",
                "days": 12,
                "whole_days": 31,
                "full_amount_cents": 9900,
                "amount_cents": 3832,
            },
            "12 of 31 days of 99.00",
        ),
        (
            {
                "kind": "commitment",
                "days": 31,
                "whole_days": 31,
                "full_amount_cents": 10000,
                "committed_cents": 10000,
                "billed_cents": 2500,
                "amount_cents": 7500,
            },
            "Committed 100.00, billed 25.00",
        ),
    ],
)
def test_every_other_amount_is_explained_by_its_steps(step: dict[str, Any], label: str) -> None:
    price, steps = walk_of(a_line(steps=(step,)))
    assert price is None
    assert [(one.label, one.amount_cents) for one in steps] == [(label, step["amount_cents"])]


def test_what_reduces_an_invoice_is_named() -> None:
    def credit(kind: CreditKind, label: str, amount: int) -> InvoiceCredit:
        return InvoiceCredit(uuid4(), kind, uuid4(), label, None, amount, END)

    credits = (
        credit(CreditKind.COUPON, "Launch", 100),
        credit(CreditKind.WALLET, "", 40),
        credit(CreditKind.PROGRESSIVE, "HOO-001-005", 30),
        credit(CreditKind.CREDIT_NOTE, "HOO-001-004-CN001", 20),
    )
    taxes = (AppliedTax(uuid4(), "vat", "VAT", None, Decimal(19), Decimal("870"), 165),)
    invoice = an_invoice(
        credits=credits,
        applied_taxes=taxes,
        lines=(a_line(taxes_rate=Decimal(19)),),
        coupons_amount_cents=100,
        progressive_billing_credit_amount_cents=30,
        sub_total_excluding_taxes_amount_cents=870,
        taxes_amount_cents=165,
        sub_total_including_taxes_amount_cents=1035,
        credit_notes_amount_cents=20,
        prepaid_credit_amount_cents=40,
        total_amount_cents=975,
    )
    text = text_of(render_invoice(document_of(invoice)))
    for part in (
        "Billed before on HOO-001-005 −€0.30",
        "Coupon Launch −€1.00",
        "VAT (19%) on €8.70 €1.65",
        "Credit note HOO-001-004-CN001 −€0.20",
        "Prepaid credits −€0.40",
        "Total due €9.75",
        "Tokens 1 – 31 Jan 2026 100 19% 10.00",
    ):
        assert part in text, part


def test_who_bills_whom() -> None:
    organization = an_organization(
        legal_name="Hooli GmbH",
        address_line1="Königsallee 12",
        zipcode="40212",
        city="Düsseldorf",
        country="DE",
        email="billing@hooli.example",
        tax_identification_number="DE1",
        billing_configuration={"invoice_footer": "HRB 12345"},
    )
    customer = a_customer(
        legal_name="Acme, Inc.",
        address_line1="500 Howard St",
        city="San Francisco",
        state="CA",
        metadata=[
            {"key": "PO", "value": "45", "display_in_invoice": True},
            {"key": "internal", "value": "no", "display_in_invoice": False},
        ],
    )
    document = document_of(an_invoice(), organization=organization, customer=customer)
    assert document.merchant.name == "Hooli GmbH"
    assert document.merchant.address == ("Königsallee 12", "40212 Düsseldorf", "DE")
    assert (document.merchant.email, document.merchant.tax_number) == ("billing@hooli.example", "DE1")
    assert document.customer.name == "Acme, Inc."
    assert document.customer.address == ("500 Howard St", "San Francisco", "CA")
    assert document.footer == "HRB 12345"
    assert document.metadata == (("PO", "45"),)


@pytest.mark.parametrize(
    ("name", "details", "shown"),
    [
        ("Acme", {}, "Acme"),
        (None, {"firstname": "Ada", "lastname": "Lovelace"}, "Ada Lovelace"),
        (None, {"firstname": None, "legal_name": " "}, "cust_1"),
    ],
)
def test_a_customer_is_called_something(name: str | None, details: dict[str, Any], shown: str) -> None:
    assert document_of(an_invoice(), customer=a_customer(name, **details)).customer.name == shown


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(from_invoice).failed == 0


def test_details_of_any_kind_are_survived() -> None:
    """Details are stored as sent; only texts are printed."""
    odd = a_customer("Acme", address_line1=7, city=["x"], metadata=[{"key": "a"}, "b"])
    document = document_of(
        an_invoice(), customer=odd, organization=an_organization(billing_configuration=None)
    )
    assert document.customer.address == ()
    assert replace(document, metadata=()) == document


def test_names_are_only_asked_of_what_is_on_the_invoice() -> None:
    unknown: dict[UUID, SubscriptionName] = {}
    with pytest.raises(KeyError):
        document_of(an_invoice(), subscriptions=unknown)


def test_a_credit_note_takes_back_lines_of_its_invoice() -> None:
    line, setup = (
        a_line(taxes_rate=Decimal(19)),
        a_line(subscription_id=None, description="Setup", period_start=None),
    )
    items = tuple(
        CreditNoteItem(uuid4(), one.id, place, amount, Decimal(amount), END)
        for place, (one, amount) in enumerate(((line, 400), (setup, 100)))
    )
    note = CreditNote(
        org_id=ORG,
        id=uuid4(),
        invoice_id=uuid4(),
        customer_id=CUSTOMER,
        sequential_id=1,
        number="HOO-001-007-CN001",
        currency="EUR",
        reason=Reason.ORDER_CHANGE,
        description="Less was wanted.",
        issuing_date=date(2026, 2, 3),
        credit_status=CreditStatus.AVAILABLE,
        refund_status=None,
        coupons_adjustment_amount_cents=50,
        coupons_adjustment_exact_amount_cents=Decimal(50),
        sub_total_excluding_taxes_amount_cents=450,
        taxes_amount_cents=86,
        taxes_exact_amount_cents=Decimal("85.5"),
        taxes_rate=Decimal(19),
        total_amount_cents=536,
        credit_amount_cents=536,
        refund_amount_cents=0,
        offset_amount_cents=0,
        balance_amount_cents=100,
        created_at=END,
        updated_at=END,
        applied_taxes=(AppliedTax(uuid4(), "vat", "VAT", None, Decimal(19), Decimal("450"), 86),),
        items=items,
    )
    document = credit_note_document(
        note,
        an_invoice(),
        {line.id: line, setup.id: setup},
        a_customer(),
        an_organization(),
        subscriptions=NAMES,
    )
    assert [section.title for section in document.sections] == ["Pro", ""]
    text = text_of(render_credit_note(document))
    for part in (
        "Credit note HOO-001-007-CN001",
        "Credits invoice HOO-001-007",
        "Reason Order change",
        "Tokens 1 – 31 Jan 2026 19% 4.00",
        "Setup 0% 1.00",
        "Coupons −€0.50",
        "VAT (19%) on €4.50 €0.86",
        "Total credited €5.36",
        "As credit on later invoices €5.36",
        "Less was wanted.",
    ):
        assert part in text, part
