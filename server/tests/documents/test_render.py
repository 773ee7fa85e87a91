import io
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import typst
from pypdf import PdfReader

from documents.builders import (
    CUSTOMER,
    MERCHANT,
    a_credit_note,
    a_line,
    an_empty_invoice,
    an_invoice,
    pages,
    text_of,
)
from nozle_server.documents import render
from nozle_server.documents.model import Party, Reduction, Section, TaxRow, WalkStep
from nozle_server.documents.render import render_credit_note, render_invoice

EVERY_SCRIPT = (
    "中文合同（上海）有限公司",
    "株式会社サンプル",
    "한국 주식회사",
    "شركة الذكاء الاصطناعي",
    "חברת בינה",
    "บริษัทตัวอย่าง",
    "हिन्दी कंपनी",
    "বাংলা",
    "தமிழ்",
    "తెలుగు",
    "ગુજરાતી",
    "ਪੰਜਾਬੀ",
    "ಕನ್ನಡ",
    "മലയാളം",
    "සිංහල",
    "ລາວ",
    "ខ្មែរ",
    "မြန်မာ",
    "አማርኛ",
    "ქართული",
    "Հայերեն",
    "Ελληνική Εταιρεία",
    "ООО «Россия» Ѓ Ї",
    "Łódź Đặng Ğüneş ŠĐČ",
    "🚀 ✅ 👩‍💻 🇩🇪",
    "₿ ₹ ₽ ₺ € £ ½ ∑ → ⚙",
)
READ_IN_ORDER = (0, 1, 2, 18, 19, 20, 21, 22, 23, 25)
"""Whose letters a PDF keeps in the order of reading; the others are reordered or joined when they are set."""


def test_an_invoice_says_everything_it_was_given() -> None:
    text = text_of(render_invoice(an_invoice()))
    for part in (
        "Invoice HOO-1F3A-001-027",
        "Hooli Inference GmbH",
        "Königsallee 12",
        "billing@hooli.example",
        "Tax number DE123456789",
        "Acme Robotics, Inc.",
        "Issued 1 Feb 2026",
        "Due 3 Mar 2026",
        "Period 1 – 31 Jan 2026",
        "$1,042.47 due 3 Mar 2026",
        "Description Quantity Unit price Tax Amount (USD)",
        "Pro plan sub_acme_prod · 1 – 31 Jan 2026",
        "Pro, monthly fee 1 99.00 20% 99.00",
        "model: sonnet",
        "22,361,870 5.5% 1,234.57",
        "First 1,000,000 1,000,000 0.00 0.00",
        "Above 1,000,000 21,361,870 0.0000577943 1,234.570323461",
        "Adjustments of closed periods",
        "Late usage of 1 – 31 Dec 2025, invoice HOO-1F3A-001-026",
        "−4.20",
        "Fees $1,329.37",
        "Billed on HOO-1F3A-001-025 −$50.00",
        "Coupon Launch partner −$200.00",
        "Subtotal without tax $1,079.37",
        "VAT Germany (20%) on $94.80 $18.96",
        "Reduced (5.5%) on $984.57 $54.15",
        "Total with tax $1,152.48",
        "Credit note HOO-1F3A-001-024-CN001 −$10.00",
        "Prepaid credits −$100.01",
        "Total due $1,042.47",
        "Thank you for building with us.",
        "PO number 4500012345",
        "IBAN DE02 1203 0000 0000 2020 51",
        "Page 1 of 1",
    ):
        assert part in text, part


def test_a_credit_note_says_everything_it_was_given() -> None:
    text = text_of(render_credit_note(a_credit_note()))
    for part in (
        "Credit note HOO-1F3A-001-027-CN001",
        "Credits invoice HOO-1F3A-001-027",
        "Reason Order cancellation",
        "$108.00 credited",
        "Pro, monthly fee 20% 99.00",
        "Coupons −$9.00",
        "Subtotal without tax $90.00",
        "VAT Germany (20%) on $90.00 $18.00",
        "Total credited $108.00",
        "As credit on later invoices $70.00",
        "Refunded $25.00",
        "Offset against the invoice $13.00",
        "Cancelled on 9 Feb.",
    ):
        assert part in text, part


def test_an_invoice_of_nothing_is_a_page_all_the_same() -> None:
    text = text_of(render_invoice(an_empty_invoice()))
    assert "Nothing was used or sold in this period." in text
    assert "Total due $0.00" in text
    assert "Quantity" not in text


def test_what_is_no_final_invoice_says_so_across_the_page() -> None:
    draft = an_empty_invoice(
        kind="Draft invoice", watermark="DRAFT", issuing_date=None, payment_due_date=None
    )
    text = text_of(render_invoice(draft))
    assert "Draft invoice" in text
    assert "DRAFT" in text
    assert "$0.00 due" not in text


@pytest.mark.parametrize(
    ("paid", "parts"),
    [
        (0, ["$1,042.47 due 3 Mar 2026"]),
        (4247, ["$1,000.00 due 3 Mar 2026", "Paid −$42.47", "Still to pay $1,000.00"]),
        (104247, ["Paid in full", "Still to pay $0.00"]),
    ],
)
def test_what_was_paid_is_told(paid: int, parts: list[str]) -> None:
    text = text_of(render_invoice(an_invoice(paid_amount_cents=paid)))
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("currency", "total", "headline", "line"),
    [("JPY", 1234, "¥1,234 due", "1,234"), ("KWD", 1234, "KWD 1.234 due", "1.234")],
)
def test_each_currency_has_its_own_decimals(currency: str, total: int, headline: str, line: str) -> None:
    document = an_invoice(
        currency=currency,
        total_amount_cents=total,
        sections=(Section(title="Usage", lines=(a_line("Calls", 1234, unit_price=Decimal("1e-12")),)),),
    )
    text = text_of(render_invoice(document))
    assert headline in text
    assert f"Calls 0.000000000001 {line}" in text
    assert f"Amount ({currency})" in text


def test_two_thousand_lines_repeat_their_head_on_every_page_and_lose_none() -> None:
    sections = tuple(
        Section(
            title=f"Subscription {index}", lines=tuple(a_line(f"Line {index}-{n}.", n) for n in range(200))
        )
        for index in range(10)
    )
    found = pages(render_invoice(an_invoice(sections=sections)))
    assert len(found) > 30
    for number, page in enumerate(found[:-1], start=1):
        assert "Description Amount (USD)" in page
        assert f"Page {number} of {len(found)}" in page
    assert all("Invoice HOO-1F3A-001-027" in page for page in found)
    text = " ".join(found)
    for index in range(10):
        for n in range(200):
            assert f"Line {index}-{n}. {n // 100}.{n % 100:02d}" in text


def _beyond_the_page(pdf: bytes) -> list[str]:
    """Texts that begin left of the margin, or so far right that not even a letter fits before the edge."""
    strays: list[str] = []
    for page in PdfReader(io.BytesIO(pdf)).pages:
        width = float(page.mediabox.width)

        def visit(text: str, matrix: Any, text_matrix: Any, *_: Any, width: float = width) -> None:
            x = matrix[0] * text_matrix[4] + matrix[4]
            if text.strip() and not 50 <= x <= width - 50:
                strays.append(text)

        page.extract_text(visitor_text=visit)
    return strays


def test_names_and_numbers_without_end_stay_on_the_page_and_whole() -> None:
    endless, amount = "abcdefghij" * 40, 10**29 + 123456789
    line = a_line(
        endless,
        amount,
        units=Decimal("12345678901234567890123456.123456789012"),
        unit_price=Decimal("999999999999999999.999999999999"),
        grouped_by={endless: endless},
        tax_rate=Decimal("12.3456"),
        steps=(WalkStep(label=endless, units=Decimal(10) ** 25, amount_cents=Decimal(amount)),),
    )
    pdf = render_invoice(
        an_invoice(
            number=endless,
            merchant=Party(name=endless, address=(endless,), email=endless),
            customer=Party(name=endless, address=(endless,)),
            sections=(Section(title=endless, reference=endless, lines=(line,)),),
            coupons=(Reduction(endless, amount),),
            taxes=(TaxRow(endless, Decimal("12.3456"), amount, amount),),
            total_amount_cents=amount,
            metadata=((endless, endless),),
            footer=endless,
        )
    )
    squeezed = text_of(pdf).replace(" ", "")
    assert squeezed.count(endless) >= 8
    assert "1,000,000,000,000,000,000,001,234,567.89" in squeezed
    assert "12,345,678,901,234,567,890,123,456.123456789012" in squeezed
    assert "999,999,999,999,999,999.999999999999" in squeezed
    assert _beyond_the_page(pdf) == []


def test_what_is_longer_than_a_page_goes_on_on_the_next() -> None:
    endless = " ".join(f"w{number}" for number in range(6000))
    coupons = tuple(Reduction(f"Coupon {number}", number + 1) for number in range(120))
    document = an_invoice(
        sections=(Section(title=endless, lines=(a_line(endless, 5),)),), coupons=coupons, footer=endless
    )
    text = text_of(render_invoice(document))
    # Taken apart: a page's head and foot stand between its words and the next page's.
    for number in range(6000):
        assert text.count(f"w{number} ") >= 3, number
    for coupon in coupons:
        assert coupon.label in text


def test_letters_of_every_script_have_a_form() -> None:
    # The standard that we draw to refuses a letter without one; the fallback would not say that it is PDF/UA.
    lines = tuple(a_line(name, index) for index, name in enumerate(EVERY_SCRIPT))
    pdf = render_invoice(
        an_invoice(sections=(Section(title="名前", lines=lines),), customer=Party(name="حساب ABC 12"))
    )
    assert b"pdfuaid" in pdf
    text = text_of(pdf)
    for index in READ_IN_ORDER:
        assert EVERY_SCRIPT[index] in text
    for name in EVERY_SCRIPT:
        assert set(name) - {"\u200d"} <= set(text), name


def test_a_letter_that_nobody_draws_does_not_keep_the_invoice_from_being_made() -> None:
    pdf = render_invoice(an_invoice(customer=Party(name="Private \U000e1234 letter")))
    assert b"pdfuaid" not in pdf
    assert "Total due $1,042.47" in text_of(pdf)


@pytest.mark.parametrize(
    "attack",
    [
        '#panic("x")',
        "#{ while true {} }",
        '#read("/etc/passwd")',
        '#import "@preview/cetz:0.3.0"',
        "\\ \\u{41} $x^2$ *bold* _it_ `raw` <label> @ref",
        '"]} , "total": [',
        "// comment /* more",
        "= Heading - item + item / term: x",
        "<script>alert(1)</script>",
    ],
)
def test_texts_are_never_read_as_markup(attack: str) -> None:
    document = an_invoice(
        number=attack,
        merchant=Party(name=attack),
        customer=Party(name=attack, address=(attack,)),
        sections=(Section(title=attack, lines=(a_line(attack, grouped_by={attack: attack}),)),),
        coupons=(Reduction(attack, 1),),
        metadata=((attack, attack),),
        notes=(attack,),
    )
    text = text_of(render_invoice(document))
    assert text.count(" ".join(attack.split())) >= 8


def test_control_characters_and_overrides_of_direction_are_not_drawn() -> None:
    text = text_of(render_invoice(an_invoice(customer=Party(name="A\x00B\x1b\u202eC\ud800D\nE"))))
    assert "A B C D E" in text


def test_the_same_document_gives_the_same_bytes_also_from_many_threads() -> None:
    documents = [an_invoice(number=f"N-{number % 3}") for number in range(12)]
    one_by_one = [render_invoice(document) for document in documents]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(render_invoice, documents)) == one_by_one
    assert len(set(one_by_one)) == 3


def test_the_file_says_what_it_is() -> None:
    reader = PdfReader(io.BytesIO(render_invoice(an_invoice())))
    assert reader.metadata is not None
    assert reader.metadata.title == "Invoice HOO-1F3A-001-027"
    assert reader.metadata.author == "Hooli Inference GmbH"
    assert reader.metadata.creation_date is not None
    assert reader.metadata.creation_date.date() == date(2026, 2, 1)
    root: Any = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    assert "/StructTreeRoot" in root


def test_a_logo_takes_the_place_of_the_name() -> None:
    square = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10"/></svg>'
    )
    with_logo = render_invoice(an_invoice(merchant=Party(name=MERCHANT.name, logo=square)))
    without = render_invoice(an_invoice(merchant=Party(name=MERCHANT.name)))
    assert text_of(without).count(MERCHANT.name) == text_of(with_logo).count(MERCHANT.name) + 1


def test_a_mistake_in_the_template_is_not_taken_for_a_letter_without_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise typst.TypstError("unknown variable", "")

    monkeypatch.setattr(typst, "compile", broken)
    with pytest.raises(typst.TypstError):
        render.render_invoice(an_invoice(customer=CUSTOMER))
