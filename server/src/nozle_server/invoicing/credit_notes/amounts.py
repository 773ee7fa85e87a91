"""What comes back with the fees that a credit note takes back: their share of coupons and taxes. Pure.

A note is rounded once, by itself, as Lago: the amount before taxes and the taxes, each half away from zero. What rounding
made of earlier notes is not handed on without end: no note takes more than is left of the invoice, and the note that takes
back the last of every fee takes all that is left, so that the notes of an invoice sum to the invoice to the cent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.core.rounding import EXACT, divide, round_half_away, to_cents
from nozle_server.invoicing.amounts import progressive_shares
from nozle_server.invoicing.model import AppliedTax, Invoice, InvoiceLine
from nozle_server.taxes.apply import RATE_PLACES


@dataclass(frozen=True, slots=True)
class Taken:
    """What earlier notes of an invoice took back: how many they are, sums of theirs, and by line and tax."""

    count: int = 0
    sub_total_cents: int = 0
    taxes_cents: int = 0
    refund_cents: int = 0
    offset_cents: int = 0
    by_line: Mapping[UUID, int] = field(default_factory=dict)
    by_tax: Mapping[UUID, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemAmount:
    """What is to be taken back of a line, before coupons and taxes."""

    line: InvoiceLine
    exact_amount_cents: Decimal

    @property
    def amount_cents(self) -> int:
        return to_cents(self.exact_amount_cents)


@dataclass(frozen=True, slots=True)
class NoteAmounts:
    """A credit note's amounts. `naive_total_cents` is the exact total rounded as one, which the caller may have computed
    and named; it differs from the total by what rounding in parts and closing an invoice make."""

    coupons_exact_cents: Decimal
    coupons_cents: int
    sub_total_cents: int
    taxes_exact_cents: Decimal
    taxes_cents: int
    taxes_rate: Decimal
    applied_taxes: tuple[AppliedTax, ...]
    naive_total_cents: int
    exceeds: bool

    @property
    def total_cents(self) -> int:
        return self.sub_total_cents + self.taxes_cents


def note_amounts(invoice: Invoice, items: Sequence[ItemAmount], taken: Taken) -> NoteAmounts:
    """What a note of these items comes to. `exceeds` says that the items are more than is left of the invoice, by more
    than the rounding of its notes explains."""
    reductions = _reductions(invoice)
    taxes: dict[UUID, _Tax] = {}
    with localcontext(EXACT):
        amount = sum((item.exact_amount_cents for item in items), Decimal(0))
        coupons = Decimal(0)
        for item in items:
            off = _share(reductions[item.line.id], item)
            coupons += off
            for applied in item.line.applied_taxes:
                tax = taxes.setdefault(applied.tax_id, _Tax(applied))
                tax.base += item.exact_amount_cents - off
                tax.amount += (item.exact_amount_cents - off) * applied.rate / 100
        net = amount - coupons
        exact_taxes = sum((tax.amount for tax in taxes.values()), Decimal(0))
        naive = to_cents(net + exact_taxes)
        rate = divide(exact_taxes * 100, net) if net else Decimal(0)
    left = invoice.sub_total_excluding_taxes_amount_cents - taken.sub_total_cents
    taxes_left = {
        tax.tax_id: tax.amount_cents - taken.by_tax.get(tax.tax_id, 0) for tax in invoice.applied_taxes
    }
    if _closes(invoice, items, taken):
        for applied in invoice.applied_taxes:
            if taxes_left[applied.tax_id]:
                taxes.setdefault(applied.tax_id, _Tax(applied))
        sub_total, taxes_cents = left, sum(taxes_left.values())
    else:
        sub_total = min(to_cents(net), left)
        taxes_cents = min(to_cents(exact_taxes), sum(taxes_left[tax_id] for tax_id in taxes))
    return NoteAmounts(
        coupons_exact_cents=coupons,
        coupons_cents=sum(item.amount_cents for item in items) - sub_total,
        sub_total_cents=sub_total,
        taxes_exact_cents=exact_taxes,
        taxes_cents=taxes_cents,
        taxes_rate=round_half_away(rate, RATE_PLACES),
        applied_taxes=_settled(list(taxes.values()), taxes_cents, taxes_left),
        naive_total_cents=naive,
        # Every note is rounded by at most half a cent, and every item by as much.
        exceeds=to_cents(net) > left + taken.count + len(items),
    )


def creditable_of_line(line: InvoiceLine, taken: Taken) -> int:
    """What is left of a line to be taken back, before coupons and taxes."""
    return max(0, line.amount_cents - taken.by_line.get(line.id, 0))


def creditable_cents(invoice: Invoice, taken: Taken) -> int:
    """What is left of the invoice to be taken back, taxes included."""
    return invoice.sub_total_including_taxes_amount_cents - taken.sub_total_cents - taken.taxes_cents


def refundable_cents(invoice: Invoice, taken: Taken) -> int:
    """What of it may be paid back: no more than was paid."""
    paid = invoice.total_paid_amount_cents - taken.refund_cents
    return max(0, min(paid, creditable_cents(invoice, taken)))


def offsettable_cents(invoice: Invoice, taken: Taken) -> int:
    """What of it may settle the invoice itself: no more than is open."""
    open_cents = invoice.total_amount_cents - invoice.total_paid_amount_cents - taken.offset_cents
    return max(0, min(open_cents, creditable_cents(invoice, taken)))


def share_out(invoice: Invoice, target_cents: int, taken: Taken) -> list[ItemAmount]:
    """Items over all that is left of the fees, in proportion, which come to about `target_cents` with taxes."""
    left = creditable_cents(invoice, taken)
    if left <= 0:
        return []
    with localcontext(EXACT):
        return [
            ItemAmount(line, divide(Decimal(creditable_of_line(line, taken) * target_cents), Decimal(left)))
            for line in invoice.lines
            if creditable_of_line(line, taken) > 0
        ]


@dataclass(slots=True)
class _Tax:
    applied: AppliedTax
    base: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)


def _reductions(invoice: Invoice) -> dict[UUID, Decimal]:
    """What each line was reduced by before taxes: progressive credits and coupons."""
    before = progressive_shares(invoice.lines, invoice.progressive_billing_credit_amount_cents)
    with localcontext(EXACT):
        return {
            line.id: share + line.coupons_exact_amount_cents
            for line, share in zip(invoice.lines, before, strict=True)
        }


def _share(reduction: Decimal, item: ItemAmount) -> Decimal:
    if not item.line.amount_cents or not reduction:
        return Decimal(0)
    with localcontext(EXACT):
        return divide(reduction * item.exact_amount_cents, Decimal(item.line.amount_cents))


def _closes(invoice: Invoice, items: Sequence[ItemAmount], taken: Taken) -> bool:
    """Whether nothing is left of any fee after these items."""
    now: dict[UUID, int] = {}
    for item in items:
        now[item.line.id] = now.get(item.line.id, 0) + item.amount_cents
    return all(
        line.amount_cents >= 0 and creditable_of_line(line, taken) == now.get(line.id, 0)
        for line in invoice.lines
    )


def _settled(taxes: Sequence[_Tax], total: int, left: Mapping[UUID, int]) -> tuple[AppliedTax, ...]:
    """Whole amounts by tax that add up to the note's taxes, none of them more than is left of that tax."""
    parts = [min(int(tax.amount), left[tax.applied.tax_id]) for tax in taxes]
    while (missing := total - sum(parts)) != 0:
        step = 1 if missing > 0 else -1
        room = [
            i
            for i, tax in enumerate(taxes)
            if (parts[i] < left[tax.applied.tax_id] if step > 0 else parts[i] > 0)
        ]
        parts[max(room, key=lambda i: step * (taxes[i].amount - parts[i]))] += step
    return tuple(
        AppliedTax(
            tax_id=tax.applied.tax_id,
            code=tax.applied.code,
            name=tax.applied.name,
            description=tax.applied.description,
            rate=tax.applied.rate,
            base_cents=tax.base,
            amount_cents=part,
        )
        for tax, part in zip(taxes, parts, strict=True)
    )
