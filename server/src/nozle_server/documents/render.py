"""Documents as PDF bytes.

The template is ours and constant; what a document says goes in as one JSON text, so no customer's name can become a command.
The same document gives the same bytes on every machine: fonts are our own, and the date is the document's. They are made to
be kept for years (PDF/A-2a) and to be read by screen readers (PDF/UA-1).

Drawing takes milliseconds for a usual invoice and about a second for thousands of lines, all of it outside the interpreter's
lock; callers on an event loop use `asyncio.to_thread`. No state is shared between calls but the fonts.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import typst

from nozle_server.core import json
from nozle_server.documents.faces import faces_for, fonts
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
from nozle_server.documents.money_text import (
    amount_text,
    day_text,
    days_text,
    exact_amount_text,
    money_text,
    price_text,
    rate_text,
    units_text,
)

_TEMPLATE = Path(__file__).parent / "document.typ"

# Control characters have no form, and overrides of the direction of text are only ever used to make it look like another.
_FORMLESS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+"
)

# The widths of Inter's tabular figures, and of all other characters of a number, in parts of the size.
_FIGURE, _MARK, _LETTER = 0.65, 0.32, 0.72
_POINTS = 8.5
_WIDEST_COLUMN = 112.0
_LEAST_SCALE = 0.4

_LONGEST_IN_HEAD = 44
_LONGEST_AT_FOOT = 180
# A line, or the totals, are kept on one page unless they could be longer than that.
_LETTERS_KEPT = 600
_TOTALS_KEPT = 20
_WIDE_TOTAL = 26
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

_NO_SUCH_LETTER = "could not be displayed"


def render_invoice(document: InvoiceDocument) -> bytes:
    """The invoice as a tagged PDF."""
    return _compile(_invoice_data(document), document.merchant.logo, document.issuing_date)


def render_credit_note(document: CreditNoteDocument) -> bytes:
    """The credit note as a tagged PDF."""
    return _compile(_credit_note_data(document), document.merchant.logo, document.issuing_date)


def _compile(data: dict[str, Any], logo: bytes | None, day: date | None) -> bytes:
    wide = any(len(row["amount"]) > _WIDE_TOTAL for row in data["totals"])
    shown = {
        **data,
        "faces": faces_for(_texts(data)),
        "wide_totals": wide,
        "keep_totals": _fits_a_page(data["totals"]),
        "logo": list(logo) if logo else None,
    }
    moment = max(datetime.combine(day, time(), UTC), _EARLIEST) if day else _EARLIEST
    text = json.dumps(shown).decode()
    try:
        return _draw(text, moment, ["a-2a", "ua-1"])
    except typst.TypstError as error:
        # A standard forbids letters that no typeface has (private use, scripts long dead). The invoice must exist all the
        # same; such a letter is then a box.
        if _NO_SUCH_LETTER not in str(error):
            raise
        return _draw(text, moment, [])


def _draw(document: str, moment: datetime, standards: "list[typst.PDFStandard]") -> bytes:
    return typst.compile(
        str(_TEMPLATE),
        root=str(_TEMPLATE.parent),
        font_paths=fonts(),
        ignore_system_fonts=True,
        sys_inputs={"document": document},
        timestamp=moment,
        pdf_standards=standards,
    )


def _invoice_data(document: InvoiceDocument) -> dict[str, object]:
    currency = document.currency
    facts = []
    if document.issuing_date:
        facts.append(["Issued", day_text(document.issuing_date)])
    if document.payment_due_date:
        facts.append(["Due", day_text(document.payment_due_date)])
    if document.days:
        facts.append(["Period", days_text(document.days.first, document.days.last)])
    facts.append(["Currency", currency])
    due = document.total_amount_cents - document.paid_amount_cents
    if document.watermark or (document.paid_amount_cents and due <= 0):
        headline = f"{money_text(document.total_amount_cents, currency)}"
        subline = "Paid in full" if not document.watermark else None
    else:
        headline = f"{money_text(due, currency)} due"
        if document.payment_due_date and due > 0:
            headline += f" {day_text(document.payment_due_date)}"
        subline = None
    return {
        **_common(document, document.issuing_date, document.notes),
        "billed": "Bill to",
        "facts": [[_clean(label), _clean(text)] for label, text in facts],
        "headline": headline,
        "subline": subline,
        "nothing": "Nothing was used or sold in this period.",
        "totals": _invoice_totals(document, due),
    }


def _credit_note_data(document: CreditNoteDocument) -> dict[str, object]:
    currency = document.currency
    facts = [
        ["Issued", day_text(document.issuing_date)],
        ["Credits invoice", document.invoice_number],
        *([["Reason", document.reason]] if document.reason else []),
        ["Currency", currency],
    ]
    rows: list[dict[str, object]] = []
    if document.coupons_adjustment_amount_cents:
        rows.append(_total("Coupons", -document.coupons_adjustment_amount_cents, currency))
    rows.append(_total("Subtotal without tax", document.sub_total_excluding_taxes_amount_cents, currency))
    rows += _tax_totals(document.taxes, currency)
    rows.append(_total("Total credited", document.total_amount_cents, currency, style="grand"))
    for label, amount in (
        ("As credit on later invoices", document.credit_amount_cents),
        ("Refunded", document.refund_amount_cents),
        ("Offset against the invoice", document.offset_amount_cents),
    ):
        if amount:
            rows.append(_total(label, amount, currency))
    return {
        **_common(document, document.issuing_date, [document.description] if document.description else []),
        "billed": "Credited to",
        "facts": [[label, _clean(text)] for label, text in facts],
        "headline": f"{money_text(document.total_amount_cents, currency)} credited",
        "subline": None,
        "nothing": "Nothing was credited.",
        "totals": rows,
    }


def _common(
    document: InvoiceDocument | CreditNoteDocument, day: date | None, notes: Sequence[str]
) -> dict[str, object]:
    number = _clean(document.number)
    merchant = _party(document.merchant)
    foot, too_long = _foot(document)
    issued = f", issued {day_text(day)}" if day else ""
    return {
        "kind": _clean(document.kind),
        "number": number,
        "head": [_shortened(_clean(document.merchant.name)), _shortened(f"{_clean(document.kind)} {number}")],
        "summary": f"{_clean(document.kind)} {number} for {_clean(document.customer.name)}{issued}",
        "merchant": merchant,
        "customer": _party(document.customer),
        "footer": foot,
        "notes": [_clean(note) for note in notes] + too_long,
        "watermark": _clean(document.watermark) if document.watermark else None,
        "metadata": [[_clean(key), _clean(value)] for key, value in document.metadata],
        **_table(document.sections, document.currency),
    }


def _fits_a_page(totals: Sequence[Mapping[str, Any]]) -> bool:
    return len(totals) <= _TOTALS_KEPT and sum(len(row["label"]) for row in totals) <= _LETTERS_KEPT


def _foot(document: InvoiceDocument | CreditNoteDocument) -> tuple[str, list[str]]:
    """What stands at the foot of each page, and what is too long for it and follows the totals."""
    footer = _clean(document.footer or "")
    if len(footer) > _LONGEST_AT_FOOT or footer.count("\n") > 1:
        return _clean(document.merchant.name)[:_LONGEST_AT_FOOT], [footer]
    return footer or _clean(document.merchant.name)[:_LONGEST_AT_FOOT], []


def _party(party: Party) -> dict[str, object]:
    lines = [*party.address, party.email, f"Tax number {party.tax_number}" if party.tax_number else None]
    return {"name": _clean(party.name), "lines": [_clean(line) for line in lines if line]}


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns of numbers the lines of a document need; the amount is always there."""

    units: bool
    price: bool
    tax: bool

    def choose(self, units: str, price: str, tax: str, amount: str) -> list[str]:
        shown = ((self.units, units), (self.price, price), (self.tax, tax), (True, amount))
        return [text for wanted, text in shown if wanted]


def _table(sections: Sequence[Section], currency: str) -> dict[str, object]:
    lines = [line for section in sections for line in section.lines]
    columns = _Columns(
        units=any(line.units is not None for line in lines),
        price=any(
            line.unit_price is not None or any(step.unit_price is not None for step in line.steps)
            for line in lines
        ),
        tax=any(line.tax_rate is not None for line in lines),
    )
    heads = columns.choose("Quantity", "Unit price", "Tax", f"Amount ({currency})")
    shown = [_section(section, columns, currency) for section in sections]
    rows = [row for section in shown for line in section["lines"] for row in (line, *line["steps"])]
    naturals = [
        max(_width(text) for text in (head, *(row["cells"][index] for row in rows)))
        for index, head in enumerate(heads)
    ]
    scale = max(_LEAST_SCALE, min(1.0, _WIDEST_COLUMN / max(naturals)))
    return {
        "heads": ["Description", *heads],
        "widths": [
            round(max(width * scale, _width(head)) + 14, 2)
            for width, head in zip(naturals, heads, strict=True)
        ],
        "number_size": round(_POINTS * scale, 2),
        "sections": shown,
    }


def _section(section: Section, columns: _Columns, currency: str) -> dict[str, Any]:
    subtitle = [section.reference, _days(section.days)]
    return {
        "title": _clean(section.title) or None,
        "subtitle": " · ".join(_clean(part) for part in subtitle if part) or None,
        "lines": [_line(line, columns, currency) for line in section.lines],
    }


def _line(line: DocumentLine, columns: _Columns, currency: str) -> dict[str, Any]:
    grouped = ", ".join(f"{key}: {value}" for key, value in line.grouped_by.items())
    details = (line.adjusts, grouped, _days(line.days))
    return {
        "label": _clean(line.label),
        "details": [_clean(detail) for detail in details if detail],
        "keep": len(line.label) + sum(len(detail) for detail in details if detail) <= _LETTERS_KEPT,
        "cells": columns.choose(
            units_text(line.units) if line.units is not None else "",
            price_text(line.unit_price, currency) if line.unit_price is not None else "",
            rate_text(line.tax_rate) if line.tax_rate is not None else "",
            amount_text(line.amount_cents, currency),
        ),
        "steps": [_step(step, columns, currency) for step in line.steps],
    }


def _step(step: WalkStep, columns: _Columns, currency: str) -> dict[str, Any]:
    return {
        "label": _clean(step.label),
        "cells": columns.choose(
            units_text(step.units) if step.units is not None else "",
            price_text(step.unit_price, currency) if step.unit_price is not None else "",
            "",
            exact_amount_text(step.amount_cents, currency),
        ),
    }


def _invoice_totals(document: InvoiceDocument, due: int) -> list[dict[str, object]]:
    currency = document.currency
    rows: list[dict[str, object]] = []
    taken = (*document.progressive_credits, *document.coupons)
    if taken:
        rows.append(_total("Fees", document.fees_amount_cents, currency))
        rows += _reductions(taken, currency)
    rows.append(_total("Subtotal without tax", document.sub_total_excluding_taxes_amount_cents, currency))
    rows += _tax_totals(document.taxes, currency)
    rows.append(
        _total("Total with tax", document.sub_total_including_taxes_amount_cents, currency, style="strong")
    )
    rows += _reductions((*document.credit_notes, *document.prepaid_credits), currency)
    rows.append(_total("Total due", document.total_amount_cents, currency, style="grand"))
    if document.paid_amount_cents:
        rows.append(_total("Paid", -document.paid_amount_cents, currency))
        rows.append(_total("Still to pay", due, currency, style="strong"))
    return rows


def _reductions(reductions: Iterable[Reduction], currency: str) -> list[dict[str, object]]:
    return [_total(_clean(one.label), -one.amount_cents, currency) for one in reductions]


def _tax_totals(taxes: Iterable[TaxRow], currency: str) -> list[dict[str, object]]:
    return [
        _total(
            f"{_clean(tax.name)} ({rate_text(tax.rate)})",
            tax.amount_cents,
            currency,
            note=f"on {money_text(tax.base_cents, currency)}",
        )
        for tax in taxes
    ]


def _total(
    label: str, amount_cents: int, currency: str, *, note: str | None = None, style: str = "plain"
) -> dict[str, object]:
    return {"label": label, "note": note, "amount": money_text(amount_cents, currency), "style": style}


def _days(days: Days | None) -> str:
    return days_text(days.first, days.last) if days else ""


def _width(text: str) -> float:
    """About how many points a number, or a column's head, takes; rather more than less."""
    parts = (_FIGURE if one.isdigit() else _LETTER if one.isalpha() else _MARK for one in text)
    return _POINTS * sum(parts)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_IN_HEAD else text[: _LONGEST_IN_HEAD - 1].rstrip() + "…"


def _clean(text: str) -> str:
    return _FORMLESS.sub(" ", text).strip()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
