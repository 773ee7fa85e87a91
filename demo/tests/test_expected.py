"""What must come out of a trace, against walks made by hand."""

from decimal import Decimal

from demo_fake_server import RATES, plan

from nozle_demo.customers import assign
from nozle_demo.expected import Usage, Verdict, compute_bill, decide, tally
from nozle_demo.journal import Outcome
from nozle_demo.pricing import read_charge
from nozle_demo.published import ModelRate, Plan, Published
from nozle_demo.trace import Trace, parse_trace


def published(*, limit: int = 100_000, credits: str = "400") -> Published:
    plans = {}
    for code, hard_limit, included in (
        ("free", Decimal(limit), "0"),
        ("pro", None, credits),
        ("scale", None, "0"),
    ):
        fields = plan(code)
        charge = read_charge(fields["charges"][0], "USD")
        plans[code] = Plan(code, "USD", fields["amount_cents"], hard_limit, Decimal(included), charge)
    rates = {
        model: ModelRate(Decimal(rate["input"]), Decimal(rate["output"])) for model, rate in RATES.items()
    }
    return Published(plans, rates)


def calls_of(plan_code: str, *sizes: int) -> tuple[Trace, list[int]]:
    """A trace in which one customer of that plan makes calls of these sizes, and the rows of them."""
    rows, customer, lines = [], None, ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    wanted = list(sizes)
    for row in range(1, 20_000):
        who, _ = assign(row)
        if not wanted:
            break
        mine = who == customer or (customer is None and who.plan_code == plan_code)
        customer = who if mine else customer
        lines.append(f"2024-01-01 00:00:{len(rows):02},{wanted.pop(0) if mine else 0},0")
        if mine:
            rows.append(row)
    return parse_trace("t", "\n".join(lines).encode()), rows


def test_free_is_denied_from_the_call_after_the_one_that_reached_the_limit() -> None:
    trace, rows = calls_of("free", 99_999, 5_000, 1, 1)
    verdicts = decide(trace, published())
    assert [verdicts[row].allowed for row in rows] == [True, True, False, False]
    verdicts = decide(trace, published(limit=99_999))
    assert [verdicts[row].allowed for row in rows] == [True, False, False, False]


def test_credits_pay_a_call_whole_or_not_at_all_and_a_smaller_one_still_later() -> None:
    trace, rows = calls_of("pro", 300_000, 100_001, 99_999, 2, 1, 1)
    verdicts = decide(trace, published())
    assert [verdicts[row].paid_by_credits for row in rows] == [True, False, True, False, True, False]
    assert all(verdicts[row].allowed for row in rows)


def test_scale_pays_no_credits() -> None:
    trace, rows = calls_of("scale", 1, 2)
    assert [decide(trace, published())[row] for row in rows] == [Verdict(True, False)] * 2


def test_tally_splits_tokens_by_outcome_and_costs_what_is_stored() -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2024-01-01 00:00:0{second},500,200\n" for second in range(3)
    )
    trace = parse_trace("t", text.encode())
    outcomes = {
        1: Outcome(1, True, "unlimited", True, "accepted"),
        2: Outcome(2, True, "unlimited", False, "accepted"),
        3: Outcome(3, False, "limit_exceeded"),
    }
    counted = tally(trace, outcomes, published())
    usages = [counted.customers[assign(row)[0].external_id] for row in (1, 2, 3)]
    assert sum(usage.credit_tokens for usage in counted.customers.values()) == usages[0].credit_tokens == 700
    assert sum(usage.other_tokens for usage in counted.customers.values()) == usages[1].other_tokens == 700
    assert sum(usage.denied_tokens for usage in counted.customers.values()) == usages[2].denied_tokens == 700
    costs = {"gpt-4o": "0.325", "gpt-4o-mini": "0.0195", "claude-sonnet-4": "0.45"}
    expected = sum(Decimal(costs[assign(row)[1]]) for row in (1, 2))
    assert sum(usage.cost_cents for usage in counted.customers.values()) == expected
    assert sum(model.cost_cents for model in counted.models.values()) == expected


def test_a_bill_is_the_fee_and_rounded_lines() -> None:
    bill = compute_bill(published().plans["pro"], Usage(credit_tokens=399_982, other_tokens=2_280_971))
    assert [(line.units, line.exact_cents, line.amount_cents) for line in bill.lines] == [
        (2_280_971, Decimal("2580.971"), 2581),
        (399_982, 0, 0),
    ]
    assert bill.total_cents == 4900 + 2581
    assert compute_bill(published().plans["free"], Usage()).total_cents == 0
