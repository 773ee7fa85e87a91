"""Progressive billing: which thresholds usage has passed, and what progressive invoices of a period still charge. Pure.

Amounts are minor units without tax. As Lago: https://getlago.com/docs/guide/plans/progressive-billing
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.catalog.model import UsageThreshold
from nozle_server.core.allocation import allocate
from nozle_server.core.rounding import EXACT, divide, to_cents
from nozle_server.invoicing.credit_notes.amounts import Taken, creditable_of_line
from nozle_server.invoicing.model import Invoice


@dataclass(frozen=True, slots=True)
class Crossing:
    """A threshold, and the usage at which it lies: for one that repeats, of its latest repeat."""

    threshold: UsageThreshold
    amount_cents: int


@dataclass(frozen=True, slots=True)
class ProgressiveInvoice:
    """A progressive invoice that stands, and what credit notes took back of it: those that stand, and all there were."""

    invoice: Invoice
    taken: Taken
    ever_taken: Taken

    @property
    def charged_cents(self) -> int:
        """What it charges of its period's usage beyond earlier ones, less what was taken back."""
        invoice = self.invoice
        own = invoice.fees_amount_cents - invoice.progressive_billing_credit_amount_cents
        if not own:
            return 0
        with localcontext(EXACT):
            back = divide(Decimal(sum(self.taken.by_line.values()) * own), Decimal(invoice.fees_amount_cents))
        return max(0, own - to_cents(back))


def crossed(thresholds: Sequence[UsageThreshold], before_cents: int, total_cents: int) -> list[Crossing]:
    """The thresholds between what had been invoiced, excluded, and what has been used, included; the lowest first.

    One that repeats does so each time that much more was used after the last of the others.
    """
    found = []
    last = 0
    for one in sorted((one for one in thresholds if not one.recurring), key=lambda one: one.amount_cents):
        last = one.amount_cents
        if before_cents < one.amount_cents <= total_cents:
            found.append(Crossing(one, one.amount_cents))
    for one in thresholds:
        if one.recurring:
            repeats = max(0, total_cents - last) // one.amount_cents
            if repeats > max(0, before_cents - last) // one.amount_cents:
                found.append(Crossing(one, last + repeats * one.amount_cents))
    return found


def items_giving_back(one: ProgressiveInvoice, amount_cents: int) -> list[tuple[UUID, Decimal]]:
    """Items of a credit note that takes back so much of what a progressive invoice charged: more of its lines, as these
    were reduced by what earlier ones had charged."""
    invoice = one.invoice
    own = invoice.fees_amount_cents - invoice.progressive_billing_credit_amount_cents
    gross = to_cents(divide(Decimal(amount_cents * invoice.fees_amount_cents), Decimal(own)))
    left = [creditable_of_line(line, one.ever_taken) for line in invoice.lines]
    if not sum(left):
        return []
    shares = allocate(min(gross, sum(left)), [Decimal(part) for part in left])
    return [
        (line.id, Decimal(min(share, most)))
        for line, share, most in zip(invoice.lines, shares, left, strict=True)
        if min(share, most) > 0
    ]
