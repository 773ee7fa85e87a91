"""What credit notes take back of an invoice: never more than it charged, and all of it when everything is taken back."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core.allocation import allocate_exact
from nozle_server.invoicing.amounts import with_taxes, with_totals
from nozle_server.invoicing.credit_notes.amounts import (
    ItemAmount,
    NoteAmounts,
    Taken,
    creditable_cents,
    note_amounts,
    share_out,
)
from nozle_server.invoicing.model import Invoice, InvoiceLine, InvoiceStatus, InvoiceType, LineKind
from nozle_server.taxes.model import Tax

ORG = uuid.UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_tax(code: str, rate: str) -> Tax:
    tax_id = uuid.uuid5(ORG, code)
    return Tax(ORG, tax_id, code, code, None, Decimal(rate), False, NOW, NOW)


def an_invoice(
    amounts: Sequence[int], *, coupons: int = 0, taxes: Sequence[Tax] = (), taxed: Sequence[bool] = ()
) -> Invoice:
    """A final invoice of lines with these amounts, which pay the taxes unless `taxed` says otherwise."""
    lines = tuple(
        InvoiceLine(
            org_id=ORG,
            id=uuid.UUID(int=n + 10),
            kind=LineKind.ADD_ON,
            customer_id=ORG,
            currency="USD",
            description="",
            units=Decimal(1),
            exact_amount_cents=Decimal(amount),
            amount_cents=amount,
            created_at=NOW,
            position=n,
        )
        for n, amount in enumerate(amounts)
    )
    shares = allocate_exact(Decimal(coupons), [Decimal(amount) for amount in amounts])
    invoice = Invoice(
        org_id=ORG,
        id=ORG,
        sequential_id=1,
        number="INV-001",
        customer_id=ORG,
        invoice_type=InvoiceType.ONE_OFF,
        status=InvoiceStatus.FINALIZED,
        payment_status="pending",
        currency="USD",
        timezone="UTC",
        fees_amount_cents=0,
        progressive_billing_credit_amount_cents=0,
        coupons_amount_cents=coupons,
        sub_total_excluding_taxes_amount_cents=0,
        taxes_amount_cents=0,
        taxes_rate=Decimal(0),
        sub_total_including_taxes_amount_cents=0,
        credit_notes_amount_cents=0,
        prepaid_credit_amount_cents=0,
        total_amount_cents=0,
        total_paid_amount_cents=0,
        net_payment_term=0,
        issuing_date=None,
        payment_due_date=None,
        finalize_at=None,
        created_at=NOW,
        updated_at=NOW,
        finalized_at=NOW,
        lines=lines,
    )
    of_line = [tuple(taxes) if not taxed or taxed[n] else () for n in range(len(lines))]
    return with_totals(with_taxes(invoice, progressive=(0,) * len(lines), coupons=shares, taxes=of_line))


def and_then(taken: Taken, items: Sequence[ItemAmount], amounts: NoteAmounts) -> Taken:
    by_line, by_tax = dict(taken.by_line), dict(taken.by_tax)
    for item in items:
        by_line[item.line.id] = by_line.get(item.line.id, 0) + item.amount_cents
    for tax in amounts.applied_taxes:
        by_tax[tax.tax_id] = by_tax.get(tax.tax_id, 0) + tax.amount_cents
    return Taken(
        count=taken.count + 1,
        sub_total_cents=taken.sub_total_cents + amounts.sub_total_cents,
        taxes_cents=taken.taxes_cents + amounts.taxes_cents,
        by_line=by_line,
        by_tax=by_tax,
    )


VAT, CITY = a_tax("vat", "20"), a_tax("city", "7.75")


def test_a_note_of_half_an_invoice_takes_half_of_coupons_and_taxes() -> None:
    invoice = an_invoice([1000, 3000], coupons=400, taxes=[VAT])
    amounts = note_amounts(invoice, [ItemAmount(invoice.lines[1], Decimal(1500))], Taken())
    assert (amounts.coupons_cents, amounts.sub_total_cents, amounts.taxes_cents) == (150, 1350, 270)
    assert (amounts.total_cents, amounts.taxes_rate) == (1620, Decimal(20))


def test_each_note_is_rounded_by_itself_and_the_last_one_closes() -> None:
    """Three thirds of 1.00 with 7.75 percent: 0.03 each, though the invoice charged 0.08 of tax."""
    invoice = an_invoice([100], taxes=[CITY])
    assert invoice.taxes_amount_cents == 8
    taken, notes = Taken(), []
    for cents in (33, 33, 34):
        items = [ItemAmount(invoice.lines[0], Decimal(cents))]
        notes.append(note_amounts(invoice, items, taken))
        taken = and_then(taken, items, notes[-1])
    assert [note.taxes_cents for note in notes] == [3, 3, 2]
    assert creditable_cents(invoice, taken) == 0


def test_more_than_is_left_of_the_invoice_is_told() -> None:
    """A fee that a negative fee outweighs: only what both come to can be taken back."""
    invoice = an_invoice([1000, 0])
    lines = (invoice.lines[0], invoice.lines[1])
    note = note_amounts(invoice, [ItemAmount(lines[0], Decimal(1000))], Taken(sub_total_cents=500))
    assert note.exceeds
    assert not note_amounts(invoice, [ItemAmount(lines[0], Decimal(500))], Taken(sub_total_cents=500)).exceeds


amount = st.integers(min_value=0, max_value=10**7)


@st.composite
def invoices(draw: st.DrawFn) -> Invoice:
    amounts = draw(st.lists(amount, min_size=1, max_size=4))
    rates = draw(st.lists(st.decimals("0", "99", places=3), max_size=3))
    return an_invoice(
        amounts,
        coupons=draw(st.integers(0, sum(amounts))),
        taxes=[a_tax(f"t{n}", str(rate)) for n, rate in enumerate(rates)],
        taxed=draw(st.lists(st.booleans(), min_size=len(amounts), max_size=len(amounts))),
    )


@given(invoices(), st.lists(st.lists(st.integers(0, 10**7), min_size=4, max_size=4), max_size=6))
def test_notes_never_take_more_than_the_invoice_and_in_the_end_exactly_it(
    invoice: Invoice, wishes: list[list[int]]
) -> None:
    """Whatever is taken back in whatever steps: by sub total, by tax, in all; and taking the rest closes it to the cent."""
    taken = Taken()
    wishes.append([10**7] * 4)
    for wish in wishes:
        items = [
            ItemAmount(line, Decimal(min(wanted, line.amount_cents - taken.by_line.get(line.id, 0))))
            for line, wanted in zip(invoice.lines, wish, strict=False)
        ]
        amounts = note_amounts(invoice, items, taken)
        assert not amounts.exceeds
        assert min(amounts.sub_total_cents, amounts.taxes_cents) >= 0
        assert sum(tax.amount_cents for tax in amounts.applied_taxes) == amounts.taxes_cents
        assert sum(item.amount_cents for item in items) - amounts.coupons_cents == amounts.sub_total_cents
        taken = and_then(taken, items, amounts)
        assert taken.sub_total_cents <= invoice.sub_total_excluding_taxes_amount_cents
        assert taken.taxes_cents <= invoice.taxes_amount_cents
        assert all(taken.by_tax.get(tax.tax_id, 0) <= tax.amount_cents for tax in invoice.applied_taxes)
    assert creditable_cents(invoice, taken) == 0
    assert all(taken.by_tax.get(tax.tax_id, 0) == tax.amount_cents for tax in invoice.applied_taxes)


@given(invoices())
def test_taken_back_in_full_it_mirrors_the_invoice(invoice: Invoice) -> None:
    """There and back is 0: taxes, coupons and total come back as they were charged."""
    amounts = note_amounts(
        invoice, [ItemAmount(line, Decimal(line.amount_cents)) for line in invoice.lines], Taken()
    )
    assert amounts.taxes_cents == invoice.taxes_amount_cents
    assert amounts.coupons_cents == invoice.coupons_amount_cents
    assert amounts.total_cents == invoice.sub_total_including_taxes_amount_cents


@given(invoices(), st.data())
def test_sharing_out_an_amount_comes_to_it_within_rounding(invoice: Invoice, data: st.DataObject) -> None:
    whole = creditable_cents(invoice, Taken())
    target = data.draw(st.integers(0, whole))
    items = share_out(invoice, target, Taken())
    total = note_amounts(invoice, items, Taken()).total_cents if items else 0
    assert abs(total - target) <= 1
