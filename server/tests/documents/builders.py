"""Builders of documents, and what a reader finds in their PDFs."""

import io
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from pypdf import PdfReader

from nozle_server.documents.model import (
    CreditNoteDocument,
    Days,
    DocumentLine,
    InvoiceDocument,
    Party,
    Reduction,
    Section,
    TaxRow,
    WalkStep,
)

JANUARY = Days(date(2026, 1, 1), date(2026, 1, 31))
MERCHANT = Party(
    name="Hooli Inference GmbH",
    address=("Königsallee 12", "40212 Düsseldorf"),
    email="billing@hooli.example",
    tax_number="DE123456789",
)
CUSTOMER = Party(name="Acme Robotics, Inc.", address=("500 Howard Street",), email="ap@acme.example")


def a_line(label: str = "Input tokens", amount_cents: int = 123457, **values: Any) -> DocumentLine:
    return DocumentLine(label=label, amount_cents=amount_cents, **values)


def an_invoice(**changes: Any) -> InvoiceDocument:
    """With everything that an invoice can show."""
    walk = (
        WalkStep(
            label="First 1,000,000", units=Decimal(1000000), unit_price=Decimal(0), amount_cents=Decimal(0)
        ),
        WalkStep(
            label="Above 1,000,000",
            units=Decimal(21361870),
            unit_price=Decimal("0.0000577943"),
            amount_cents=Decimal("123457.0323461"),
        ),
    )
    usual = InvoiceDocument(
        kind="Invoice",
        number="HOO-1F3A-001-027",
        currency="USD",
        issuing_date=date(2026, 2, 1),
        payment_due_date=date(2026, 3, 3),
        days=JANUARY,
        merchant=MERCHANT,
        customer=CUSTOMER,
        sections=(
            Section(
                title="Pro plan",
                reference="sub_acme_prod",
                days=JANUARY,
                lines=(
                    a_line(
                        "Pro, monthly fee",
                        9900,
                        units=Decimal(1),
                        unit_price=Decimal(99),
                        tax_rate=Decimal(20),
                    ),
                    a_line(
                        units=Decimal(22361870),
                        grouped_by={"model": "sonnet"},
                        tax_rate=Decimal("5.5"),
                        steps=walk,
                    ),
                ),
            ),
            Section(
                title="Adjustments of closed periods",
                lines=(
                    a_line(
                        "GPU seconds", -420, adjusts="Late usage of 1 – 31 Dec 2025, invoice HOO-1F3A-001-026"
                    ),
                ),
            ),
        ),
        fees_amount_cents=132937,
        progressive_credits=(Reduction("Billed on HOO-1F3A-001-025", 5000),),
        coupons=(Reduction("Coupon Launch partner", 20000),),
        sub_total_excluding_taxes_amount_cents=107937,
        taxes=(
            TaxRow("VAT Germany", Decimal(20), 9480, 1896),
            TaxRow("Reduced", Decimal("5.5"), 98457, 5415),
        ),
        sub_total_including_taxes_amount_cents=115248,
        credit_notes=(Reduction("Credit note HOO-1F3A-001-024-CN001", 1000),),
        prepaid_credits=(Reduction("Prepaid credits", 10001),),
        total_amount_cents=104247,
        notes=("Thank you for building with us.",),
        footer="IBAN DE02 1203 0000 0000 2020 51",
        metadata=(("PO number", "4500012345"),),
    )
    return replace(usual, **changes)


def an_empty_invoice(**changes: Any) -> InvoiceDocument:
    nothing: dict[str, Any] = {
        "sections": (),
        "progressive_credits": (),
        "coupons": (),
        "taxes": (),
        "credit_notes": (),
        "prepaid_credits": (),
        "fees_amount_cents": 0,
        "sub_total_excluding_taxes_amount_cents": 0,
        "sub_total_including_taxes_amount_cents": 0,
        "total_amount_cents": 0,
        "metadata": (),
        "notes": (),
    }
    return an_invoice(**{**nothing, **changes})


def a_credit_note(**changes: Any) -> CreditNoteDocument:
    usual = CreditNoteDocument(
        kind="Credit note",
        number="HOO-1F3A-001-027-CN001",
        invoice_number="HOO-1F3A-001-027",
        currency="USD",
        issuing_date=date(2026, 2, 10),
        merchant=MERCHANT,
        customer=CUSTOMER,
        sections=(
            Section(title="Pro plan", lines=(a_line("Pro, monthly fee", 9900, tax_rate=Decimal(20)),)),
        ),
        coupons_adjustment_amount_cents=900,
        sub_total_excluding_taxes_amount_cents=9000,
        taxes=(TaxRow("VAT Germany", Decimal(20), 9000, 1800),),
        total_amount_cents=10800,
        credit_amount_cents=7000,
        refund_amount_cents=2500,
        offset_amount_cents=1300,
        reason="Order cancellation",
        description="Cancelled on 9 Feb.",
    )
    return replace(usual, **changes)


def pages(pdf: bytes) -> list[str]:
    """Each page's text, its spaces and line breaks made one space, and places where a long word may break left out."""
    return [
        " ".join(page.extract_text().replace("\u200b", "").split())
        for page in PdfReader(io.BytesIO(pdf)).pages
    ]


def text_of(pdf: bytes) -> str:
    return " ".join(pages(pdf))
