"""What must have come out, computed from trace, outcomes and published prices by code of our own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from nozle_demo.customers import CUSTOMERS, PRO, assign
from nozle_demo.journal import CREDITS, Outcome
from nozle_demo.pricing import round_cents
from nozle_demo.published import Plan, Published
from nozle_demo.trace import Trace

TOKENS_PER_CREDIT = 1_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What should become of a row."""

    allowed: bool
    paid_by_credits: bool


@dataclass
class Usage:
    """Calls and tokens of one customer, and what they cost the merchant."""

    events: int = 0
    denied_calls: int = 0
    denied_tokens: int = 0
    credit_tokens: int = 0
    other_tokens: int = 0
    cost_cents: Decimal = field(default_factory=Decimal)

    @property
    def tokens(self) -> int:
        """Metered tokens."""
        return self.credit_tokens + self.other_tokens


@dataclass
class ModelUsage:
    input_tokens: int = 0
    output_tokens: int = 0
    cost_cents: Decimal = field(default_factory=Decimal)


@dataclass(frozen=True)
class Tally:
    """Usage by external id and by model."""

    customers: dict[str, Usage]
    models: dict[str, ModelUsage]


@dataclass(frozen=True)
class BillLine:
    units: Decimal
    exact_cents: Decimal

    @property
    def amount_cents(self) -> int:
        return round_cents(self.exact_cents)


@dataclass(frozen=True)
class Bill:
    """A period's fee and its usage lines (none for a quantity of 0)."""

    fee_cents: int
    lines: tuple[BillLine, ...]

    @property
    def total_cents(self) -> int:
        return self.fee_cents + sum(line.amount_cents for line in self.lines)


def decide(trace: Trace, published: Published) -> dict[int, Verdict]:
    """Walk the trace once: who is denied at the limit, and whose credits cover which call."""
    used = {customer.external_id: 0 for customer in CUSTOMERS}
    # Credits as whole thousandths: one token.
    left = {
        each.external_id: published.plans[each.plan_code].credits * TOKENS_PER_CREDIT for each in CUSTOMERS
    }
    verdicts: dict[int, Verdict] = {}
    for request in trace.requests:
        customer, _ = assign(request.row)
        external_id, plan = customer.external_id, published.plans[customer.plan_code]
        if plan.hard_limit is not None and used[external_id] >= plan.hard_limit:
            verdicts[request.row] = Verdict(allowed=False, paid_by_credits=False)
            continue
        used[external_id] += request.tokens
        paid = customer.plan_code == PRO and 0 < request.tokens <= left[external_id]
        if paid:
            left[external_id] -= request.tokens
        verdicts[request.row] = Verdict(allowed=True, paid_by_credits=paid)
    return verdicts


def tally(trace: Trace, outcomes: Mapping[int, Outcome], published: Published) -> Tally:
    """Add up tokens and costs of the rows by what became of them."""
    customers = {customer.external_id: Usage() for customer in CUSTOMERS}
    models: dict[str, ModelUsage] = {}
    for request in trace.requests:
        customer, model = assign(request.row)
        usage, outcome = customers[customer.external_id], outcomes[request.row]
        if not outcome.allowed:
            usage.denied_calls += 1
            usage.denied_tokens += request.tokens
            continue
        usage.events += 1
        if outcome.paid_by_credits:
            usage.credit_tokens += request.tokens
        else:
            usage.other_tokens += request.tokens
        cost = published.rates[model].cost_cents(request.input_tokens, request.output_tokens)
        usage.cost_cents += cost
        of_model = models.setdefault(model, ModelUsage())
        of_model.input_tokens += request.input_tokens
        of_model.output_tokens += request.output_tokens
        of_model.cost_cents += cost
    return Tally(customers, models)


def compute_bill(plan: Plan, usage: Usage) -> Bill:
    """The period's bill: the fee, the usage at a price, the usage that credits paid."""
    base, credits = plan.charge.base, plan.charge.price_for({"paid_by": CREDITS})
    parts = [(base, usage.other_tokens), (credits, usage.credit_tokens)]
    if credits is base:
        parts = [(base, usage.tokens)]
    lines = (BillLine(Decimal(units), price.amount_cents(Decimal(units))) for price, units in parts if units)
    return Bill(plan.fee_cents, tuple(lines))
