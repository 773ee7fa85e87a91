"""From an invoice's lines to its amounts: what progressive invoices charged before, coupons, taxes. Pure.

The order is Lago's: progressive credits reduce the usage they were for, coupons what is left, taxes are on the rest.
https://getlago.com/docs/guide/invoicing/overview
"""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.core.allocation import allocate
from nozle_server.core.rounding import EXACT, divide, round_half_away, to_cents
from nozle_server.core.values import replace
from nozle_server.invoicing.model import AppliedTax, Invoice, InvoiceLine, LineKind
from nozle_server.taxes.apply import RATE_PLACES, TaxableLine, TaxAmount, TaxedLine, TaxTotal, compute_taxes
from nozle_server.taxes.model import Tax


def progressive_shares(lines: Sequence[InvoiceLine], credit_cents: int) -> tuple[int, ...]:
    """How an amount charged before is spread over the usage lines it was for, by their amounts; 0 for other lines.

    ValueError for more than the usage lines come to: the rest is given back otherwise.
    """
    weights = [Decimal(line.amount_cents if _is_usage(line) else 0) for line in lines]
    if credit_cents > sum(weights):
        raise ValueError("more was charged before than the usage comes to")
    if not lines or not credit_cents:
        return (0,) * len(lines)
    return allocate(credit_cents, weights)


def usage_cents(lines: Sequence[InvoiceLine]) -> int:
    """What progressive credits may reduce at most."""
    return sum(line.amount_cents for line in lines if _is_usage(line))


def payable_cents(invoice: Invoice) -> tuple[int, ...]:
    """What is to be paid for each line: less what progressive invoices charged of it and its coupons, with its taxes."""
    before = progressive_shares(invoice.lines, invoice.progressive_billing_credit_amount_cents)
    return tuple(
        line.amount_cents - share - to_cents(line.coupons_exact_amount_cents) + line.taxes_amount_cents
        for line, share in zip(invoice.lines, before, strict=True)
    )


def with_taxes(
    invoice: Invoice,
    *,
    progressive: Sequence[int],
    coupons: Sequence[Decimal],
    taxes: Sequence[tuple[Tax, ...]],
) -> Invoice:
    """The invoice with its lines taxed on what the shares of progressive credits and coupons leave of them."""
    with localcontext(EXACT):
        bases = [
            line.amount_cents - before - off
            for line, before, off in zip(invoice.lines, progressive, coupons, strict=True)
        ]
    taxation = compute_taxes([TaxableLine(base, paid) for base, paid in zip(bases, taxes, strict=True)])
    lines = tuple(
        replace(taxed_line(line, base, taxed), coupons_exact_amount_cents=off)
        for line, base, off, taxed in zip(invoice.lines, bases, coupons, taxation.lines, strict=True)
    )
    return replace(
        invoice,
        lines=lines,
        taxes_amount_cents=taxation.taxes_amount_cents,
        taxes_rate=taxation.taxes_rate,
        applied_taxes=tuple(_of_invoice(one) for one in taxation.taxes),
    )


def taxed_line(line: InvoiceLine, base_cents: Decimal, taxed: TaxedLine) -> InvoiceLine:
    """The line with its taxes, which are on `base_cents` of it."""
    return replace(
        line,
        taxes_rate=taxed.rate,
        taxes_amount_cents=taxed.taxes_amount_cents,
        applied_taxes=tuple(_of_line(one, base_cents) for one in taxed.taxes),
    )


def with_taxes_of_lines(invoice: Invoice) -> Invoice:
    """The invoice with the taxes that its lines have already: they were charged as they are, and are not computed anew."""
    by_tax: dict[UUID, list[AppliedTax]] = defaultdict(list)
    for line in invoice.lines:
        for one in line.applied_taxes:
            by_tax[one.tax_id].append(one)
    with localcontext(EXACT):
        fees = sum(line.amount_cents for line in invoice.lines)
        weighted = sum((line.taxes_rate * line.amount_cents for line in invoice.lines), Decimal(0))
        applied = tuple(
            replace(
                same[0],
                base_cents=Decimal(to_cents(sum((one.base_cents for one in same), Decimal(0)))),
                amount_cents=sum(one.amount_cents for one in same),
            )
            for same in by_tax.values()
        )
        rate = divide(weighted, Decimal(fees)) if fees else Decimal(0)
    return replace(
        invoice,
        taxes_amount_cents=sum(line.taxes_amount_cents for line in invoice.lines),
        taxes_rate=round_half_away(rate, RATE_PLACES),
        applied_taxes=applied,
    )


def with_totals(invoice: Invoice) -> Invoice:
    """The amounts that follow from the lines and what reduces them."""
    fees = sum(line.amount_cents for line in invoice.lines)
    excluding = fees - invoice.progressive_billing_credit_amount_cents - invoice.coupons_amount_cents
    including = excluding + invoice.taxes_amount_cents
    return replace(
        invoice,
        fees_amount_cents=fees,
        sub_total_excluding_taxes_amount_cents=excluding,
        sub_total_including_taxes_amount_cents=including,
        total_amount_cents=including
        - invoice.credit_notes_amount_cents
        - invoice.prepaid_credit_amount_cents,
    )


def _is_usage(line: InvoiceLine) -> bool:
    return line.kind is LineKind.CHARGE and line.adjusts_invoice_id is None


def _of_line(one: TaxAmount, base: Decimal) -> AppliedTax:
    tax = one.tax
    return AppliedTax(tax.id, tax.code, tax.name, tax.description, tax.rate, base, one.amount_cents)


def _of_invoice(one: TaxTotal) -> AppliedTax:
    tax = one.tax
    return AppliedTax(
        tax.id, tax.code, tax.name, tax.description, tax.rate, Decimal(one.base_cents), one.amount_cents
    )
