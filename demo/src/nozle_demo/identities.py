"""The identities that must hold to the last digit.

The two sides of each come from different places (trace, journal, server), so that no identity compares a
number with itself. Credits entries and lines of invoices are those of the period that was played.
"""

from collections.abc import Iterator
from decimal import Decimal

from nozle_demo.customers import CUSTOMERS, FREE, assign
from nozle_demo.evidence import Evidence
from nozle_demo.expected import TOKENS_PER_CREDIT, BillLine, ModelUsage
from nozle_demo.identity import Comparison, Identity
from nozle_demo.observed import DEDUCT, EXPIRE, GRANT, Line, MarginRow

_ZERO = Decimal(0)


def check(evidence: Evidence) -> list[Identity]:
    """All identities, in the order in which they are reported."""
    return [
        *_metering(evidence),
        *_credits(evidence),
        *_invoices(evidence),
        *_margin(evidence),
        *_decisions(evidence),
    ]


def _metering(evidence: Evidence) -> Iterator[Identity]:
    tokens = Comparison(
        "1", "tokens read = metered + tokens of denied calls", left=("read",), right=("metered", "denied")
    )
    calls = Comparison(
        "1b", "requests read = events stored + calls denied", left=("read",), right=("stored", "denied")
    )
    kinds = Comparison(
        "2",
        "metered = invoiced at a price + paid by credits + metered on free",
        left=("metered",),
        right=("at a price", "by credits", "on free"),
    )
    paid = Comparison(
        "2b",
        "tokens paid by credits = credits spent x 1,000",
        left=("on invoices",),
        right=("in the ledger",),
    )
    read_tokens = dict.fromkeys((each.external_id for each in CUSTOMERS), 0)
    read_calls = dict(read_tokens)
    for request in evidence.trace.requests:
        external_id = assign(request.row)[0].external_id
        read_tokens[external_id] += request.tokens
        read_calls[external_id] += 1
    for each in CUSTOMERS:
        external_id = each.external_id
        usage = evidence.tally.customers[external_id]
        used = evidence.closing.readings[external_id].used
        stored = _customer_row(evidence, external_id).events_count
        tokens.add(external_id, (read_tokens[external_id],), (used, usage.denied_tokens))
        calls.add(external_id, (read_calls[external_id],), (stored, usage.denied_calls))
        if each.plan_code == FREE:
            kinds.add(external_id, (used,), (0, 0, used))
            continue
        lines = evidence.usage_lines(external_id)
        priced = _units(line for line in lines if line.exact_cents)
        by_credits = _units(line for line in lines if not line.exact_cents)
        kinds.add(external_id, (used,), (priced, by_credits, 0))
        paid.add(external_id, (by_credits,), (evidence.moved(external_id, DEDUCT) * TOKENS_PER_CREDIT,))
    return iter((tokens.done(), calls.done(), kinds.done(), paid.done()))


def _credits(evidence: Evidence) -> Iterator[Identity]:
    granted = Comparison("3", "credits granted = spent + left", left=("granted",), right=("spent", "left"))
    expired = Comparison(
        "3b", "credits left when the period ended = expired", left=("left",), right=("expired",)
    )
    balance = Comparison("4", "balance = sum of ledger entries", left=("balances now",), right=("entries",))
    for each in CUSTOMERS:
        external_id = each.external_id
        left = evidence.closing.readings[external_id].balance
        grants = evidence.moved(external_id, GRANT)
        granted.add(external_id, (grants,), (evidence.moved(external_id, DEDUCT), left))
        granted.also(f"{external_id}, granted", grants, evidence.published.plans[each.plan_code].credits)
        expired.add(external_id, (left,), (evidence.moved(external_id, EXPIRE),))
        entries = sum((entry.amount for entry in evidence.observed.ledgers[external_id]), _ZERO)
        balance.add(external_id, (evidence.observed.balances[external_id],), (entries,))
    return iter((granted.done(), expired.done(), balance.done()))


def _invoices(evidence: Evidence) -> Iterator[Identity]:
    lines = Comparison("5", "invoice total = sum of its lines (cents)", left=("totals",), right=("lines",))
    own = Comparison(
        "5b",
        "invoice total = computed here from trace and published prices (cents)",
        left=("invoiced",),
        right=("computed here",),
    )
    for external_id, bill in evidence.bills.items():
        invoice = evidence.invoice(external_id)
        if invoice is None:
            # A period that costs nothing may go without an invoice.
            own.add(f"{external_id}, no invoice", (0,), (bill.total_cents,))
            continue
        lines.add(external_id, (invoice.total_cents,), (sum(line.amount_cents for line in invoice.lines),))
        own.add(external_id, (invoice.total_cents,), (bill.total_cents,))
        theirs = sorted(_amounts(line) for line in evidence.usage_lines(external_id) if line.units)
        own.also(f"{external_id}, usage lines", theirs, sorted(_amounts(line) for line in bill.lines))
    return iter((lines.done(), own.done()))


def _margin(evidence: Evidence) -> Iterator[Identity]:
    usage = Comparison(
        "6",
        "usage revenue in margin = usage lines of the invoices (cents)",
        left=("in margin",),
        right=("on invoices",),
    )
    margin = Comparison("7", "margin = revenue - cost (cents)", left=("margin",), right=("revenue", "cost"))
    cost = Comparison(
        "7b",
        "cost = tokens x published model rates (cents)",
        left=("in margin",),
        right=("computed here",),
    )
    for each in CUSTOMERS:
        external_id = each.external_id
        row = _customer_row(evidence, external_id)
        # Revenue is what was billed: the lines as they were settled, to the cent.
        on_invoice = sum(line.amount_cents for line in evidence.usage_lines(external_id))
        usage.add(external_id, (row.usage_cents,), (on_invoice,))
        margin.add(external_id, (row.margin_cents,), (row.revenue_cents, -row.cost_cents))
        margin.also(f"{external_id}, revenue", row.revenue_cents, row.usage_cents + row.subscription_cents)
        cost.add(external_id, (row.cost_cents,), (evidence.tally.customers[external_id].cost_cents,))
    _sums_of_all(evidence, usage, margin, cost)
    return iter((usage.done(), margin.done(), cost.done()))


def _sums_of_all(evidence: Evidence, usage: Comparison, margin: Comparison, cost: Comparison) -> None:
    """The summary and the models; they cover all customers, so our sums are compared only without others."""
    observed = evidence.observed
    for row in (observed.margin, *observed.margin_by_model.values()):
        margin.also(row.label, row.margin_cents, row.revenue_cents - row.cost_cents)
    if observed.strangers:
        return
    ours = tuple(observed.margin_by_customer.values())
    billed = sum((row.usage_cents for row in ours), _ZERO)
    usage.also(
        "all models", sum((row.usage_cents for row in observed.margin_by_model.values()), _ZERO), billed
    )
    usage.also("all", observed.margin.usage_cents, billed)
    margin.also(
        "all, revenue", observed.margin.revenue_cents, sum((row.revenue_cents for row in ours), _ZERO)
    )
    cost.also("all", observed.margin.cost_cents, sum((row.cost_cents for row in ours), _ZERO))
    for model in sorted({*evidence.tally.models, *observed.margin_by_model}):
        expected = evidence.tally.models.get(model, ModelUsage())
        row = observed.margin_by_model.get(model, _empty_row(model))
        cost.also(f"{model}, input tokens", row.input_tokens, expected.input_tokens)
        cost.also(f"{model}, output tokens", row.output_tokens, expected.output_tokens)
        cost.also(model, row.cost_cents, expected.cost_cents)


def _decisions(evidence: Evidence) -> Iterator[Identity]:
    denied = Comparison(
        "8",
        "calls denied = computed here from trace and limits",
        left=("journalled",),
        right=("computed here",),
    )
    paid = Comparison(
        "8b",
        "calls paid by credits = computed here from trace and credits",
        left=("journalled",),
        right=("computed here",),
    )
    for request in evidence.trace.requests:
        customer, _ = assign(request.row)
        outcome, verdict = evidence.outcomes[request.row], evidence.verdicts[request.row]
        item = f"row {request.row}, {customer.external_id}"
        denied.add(item, (int(not outcome.allowed),), (int(not verdict.allowed),))
        paid.add(item, (int(outcome.paid_by_credits),), (int(verdict.paid_by_credits),))
    return iter((denied.done(), paid.done()))


def _customer_row(evidence: Evidence, external_id: str) -> MarginRow:
    return evidence.observed.margin_by_customer.get(external_id) or _empty_row(external_id)


def _empty_row(label: str) -> MarginRow:
    return MarginRow(label, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, None, 0)


def _units(lines: Iterator[Line]) -> Decimal:
    return sum((line.units for line in lines), _ZERO)


def _amounts(line: Line | BillLine) -> tuple[Decimal | int, ...]:
    return line.units, line.exact_cents, line.amount_cents
