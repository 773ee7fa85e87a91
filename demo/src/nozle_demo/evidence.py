"""Everything that the identities and the report look at, and the readings of it that both need."""

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from nozle_demo.closing import Closing
from nozle_demo.customers import CUSTOMERS
from nozle_demo.expected import Bill, Tally, Verdict, compute_bill, decide, tally
from nozle_demo.journal import Outcome
from nozle_demo.observed import EXPIRE, Invoice, Line, Observed
from nozle_demo.published import Published
from nozle_demo.trace import Trace


@dataclass(frozen=True)
class Evidence:
    """What was read (trace, journal, prices, server), and what we compute from trace, journal and prices."""

    trace: Trace
    published: Published
    outcomes: dict[int, Outcome]
    closing: Closing
    observed: Observed

    @cached_property
    def tally(self) -> Tally:
        return tally(self.trace, self.outcomes, self.published)

    @cached_property
    def verdicts(self) -> dict[int, Verdict]:
        return decide(self.trace, self.published)

    @cached_property
    def bills(self) -> dict[str, Bill]:
        plans, usages = self.published.plans, self.tally.customers
        return {
            each.external_id: compute_bill(plans[each.plan_code], usages[each.external_id])
            for each in CUSTOMERS
        }

    def moved(self, external_id: str, kind: str) -> Decimal:
        """Credits of one kind of movement within the period; what expires does so when the period is over."""
        period = self.closing.readings[external_id].period
        amounts = (
            entry.amount
            for entry in self.observed.ledgers[external_id]
            if entry.kind == kind
            and (period.end <= entry.at <= self.closing.bills_at if kind == EXPIRE else entry.at < period.end)
        )
        return abs(sum(amounts, Decimal(0)))

    def invoice(self, external_id: str) -> Invoice | None:
        return self.observed.invoices.get(external_id)

    def usage_lines(self, external_id: str) -> tuple[Line, ...]:
        """Lines of usage on the customer's invoice; none without an invoice."""
        invoice = self.invoice(external_id)
        return () if invoice is None else tuple(line for line in invoice.lines if line.kind == "charge")
