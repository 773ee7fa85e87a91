"""The second act without a server: what is worked out by hand, that each identity can fail, and how a life goes on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from demo_fake_server import FakeServer

from nozle_demo.cli import main
from nozle_demo.client import Api
from nozle_demo.clock import OrganizationClock
from nozle_demo.errors import UsageError
from nozle_demo.life.expected import Bill, work_out
from nozle_demo.life.identities import CANCELLED, check_life
from nozle_demo.life.journal import LifeJournal
from nozle_demo.life.months import Months, next_month
from nozle_demo.life.observed import CORRECTION, CreditNote, Fee, LifeInvoice, LifeObserved
from nozle_demo.life.report import LifeReport
from nozle_demo.life.story import ADA, CLEO, EMIL, FINN, STEPS, Stage, live

JANUARY = Months(datetime(2026, 1, 1, tzinfo=UTC))


def test_months_follow_each_other_over_the_end_of_a_year() -> None:
    months = Months(datetime(2027, 12, 1, tzinfo=UTC))
    assert [f"{months.at(n, 5, 12):%Y-%m-%d %H}" for n in range(3)] == [
        "2027-12-05 12",
        "2028-01-05 12",
        "2028-02-05 12",
    ]
    assert [months.days(n) for n in range(3)] == [31, 31, 29]
    assert next_month(datetime(2027, 12, 31, 23, 59, tzinfo=UTC)).tag == "2028-01"
    assert next_month(datetime(2027, 12, 1, tzinfo=UTC)).tag == "2028-01"


def test_steps_are_in_the_order_of_their_dates_and_have_names_of_their_own() -> None:
    assert [step.at for step in STEPS] == sorted(step.at for step in STEPS)
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_every_invoice_is_worked_out_from_prices_and_days() -> None:
    """From 1 January 2026: 16 of 31 days of Pro, 21 of 31 of Team, and so on, written out."""
    expected = work_out(JANUARY)
    assert {name: [bill.total_cents for bill in bills] for name, bills in expected.bills.items()} == {
        "ada": [2900, 400 + 5110 - 1497, 9900 + 300, 540 + 2900],
        "bert": [2900, 100],
        "cleo": [9900, 700],
        "dora": [10692, 11945, 14400, 10692],
        "emil": [8000, 0, 3065, 0],
        "finn": [2400, 3860, 2955],
    }
    assert (expected.ada_kept_cents, expected.ada_credited_cents) == (1403, 1497)
    assert (expected.cleo_kept_cents, expected.late_cents) == (6387, 55)


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("year", [2026, 2028])
def test_a_life_may_begin_in_any_month(year: int, month: int) -> None:
    """What is kept and what is credited of a fee paid in advance is the fee, however long the month."""
    expected = work_out(Months(datetime(year, month, 1, tzinfo=UTC)))
    assert expected.ada_kept_cents + expected.ada_credited_cents == 2900
    assert all(bill.total_cents >= 0 for bills in expected.bills.values() for bill in bills)


# What an honest server would show.


def an_invoice(name: str, number: int, bill: Bill) -> LifeInvoice:
    fees = tuple(a_fee(name, number, position, cents) for position, cents in enumerate(bill.fees))
    return LifeInvoice(
        id=f"{name}-{number}",
        number=f"{name.upper()}-{number}",
        issued_on="2026-01-01",
        kind="subscription",
        fees_cents=bill.fees_cents,
        coupons_cents=bill.coupons_cents,
        taxes_cents=bill.taxes_cents,
        credit_notes_cents=bill.credit_cents,
        wallet_cents=bill.wallet_cents,
        total_cents=bill.total_cents,
        paid_cents=bill.total_cents if name == CLEO and not number else 0,
        fees=fees,
        sentences=("The lines come to it.",),
    )


def a_fee(name: str, number: int, position: int, cents: Decimal) -> Fee:
    kind = "charge" if position else "subscription"
    steps: tuple[tuple[str, Decimal], ...] = (("tier", cents),)
    if (name, number, position) == (FINN, 2, 1):
        steps = (("tier", cents + 960), (CORRECTION, cents))
    return Fee(
        kind, f"fee {position}", int(cents.quantize(Decimal(1), "ROUND_HALF_UP")), cents, ("So.",), steps
    )


def honest() -> tuple[dict[str, Any], LifeObserved]:
    expected = work_out(JANUARY)
    invoices = {
        name: tuple(an_invoice(name, number, bill) for number, bill in enumerate(bills))
        for name, bills in expected.bills.items()
    }
    notes = dict.fromkeys(invoices, ()) | {
        ADA: (CreditNote("CN-1", "2026-01-16", "ADA-0", 1497, 0),),
        CLEO: (CreditNote("CN-2", "2026-01-20", "CLEO-0", 3513, 3513),),
    }
    over = {"allowed": False, "reason": CANCELLED}
    still = {"allowed": True, "reason": "feature_enabled"}
    preview = {"credit_amount_cents": 1497, "debit_amount_cents": 5510, "net_amount_cents": 4013}
    facts = {
        "upgrade": {**preview, "amount_due_now_cents": 4013, "invoice_id": "inv_ada1"},
        "cancel-later": {"ends_at": "2026-02-01T00:00:00Z", **still},
        "cancel-now": over,
        "still-there": still,
        "renewed": over,
        "late": {"number": "FINN-1", "adjustments": [{"status": "pending", "net_amount_cents": 55}]},
        "downgrade": {"effective_at": "2026-03-01T00:00:00Z"},
    }
    return facts, LifeObserved(invoices, notes, 3000, Decimal(18000))


def false_ones(facts: dict[str, Any], seen: LifeObserved) -> set[str]:
    return {one.number for one in check_life(facts, seen, work_out(JANUARY)) if not one.holds}


def test_all_identities_hold_for_an_honest_server() -> None:
    assert false_ones(*honest()) == set()


def with_invoice(seen: LifeObserved, name: str, number: int, **changes: object) -> LifeObserved:
    invoices = list(seen.invoices[name])
    invoices[number] = replace(invoices[number], **changes)  # type: ignore[arg-type]
    return replace(seen, invoices={**seen.invoices, name: tuple(invoices)})


def with_fee(seen: LifeObserved, name: str, number: int, position: int, **changes: object) -> LifeObserved:
    fees = list(seen.invoices[name][number].fees)
    fees[position] = replace(fees[position], **changes)  # type: ignore[arg-type]
    return with_invoice(seen, name, number, fees=tuple(fees))


def with_note(seen: LifeObserved, name: str, **changes: object) -> LifeObserved:
    notes = (replace(seen.credit_notes[name][0], **changes),)  # type: ignore[arg-type]
    return replace(seen, credit_notes={**seen.credit_notes, name: notes})


@pytest.mark.parametrize(
    ("lie", "wrong"),
    [
        (lambda seen: with_invoice(seen, "bert", 0, total_cents=2901), {"1", "2"}),
        (lambda seen: with_invoice(seen, "dora", 1, coupons_cents=1105, taxes_cents=1990), {"3", "4"}),
        (lambda seen: with_fee(seen, "dora", 1, 1, amount_cents=561), {"1"}),
        (lambda seen: with_fee(seen, "dora", 1, 1, exact_cents=Decimal("560.0001")), {"5"}),
        (lambda seen: with_note(seen, CLEO, total_cents=3512, refund_cents=3512), {"7"}),
        (lambda seen: with_note(seen, CLEO, refund_cents=0), {"7"}),
        (lambda seen: with_note(seen, ADA, total_cents=1496), {"6", "7"}),
        (lambda seen: replace(seen, wallet_cents=2999), {"8"}),
        (lambda seen: with_invoice(seen, EMIL, 2, wallet_cents=3934, total_cents=3066), {"2", "8"}),
        (lambda seen: with_fee(seen, FINN, 2, 1, amount_cents=70), {"1", "9"}),
        (lambda seen: replace(seen, invoices={**seen.invoices, "bert": seen.invoices["bert"][:1]}), {"2"}),
    ],
)
def test_each_identity_can_fail(lie: Callable[[LifeObserved], LifeObserved], wrong: set[str]) -> None:
    facts, seen = honest()
    assert false_ones(facts, lie(seen)) == wrong


@pytest.mark.parametrize(
    ("step", "fact", "wrong"),
    [
        ("upgrade", {"amount_due_now_cents": 4012}, {"6"}),
        ("upgrade", {"debit_amount_cents": 5511}, {"6"}),
        ("late", {"adjustments": []}, {"9"}),
        ("still-there", {"allowed": False}, {"10"}),
        ("renewed", {"allowed": True}, {"10"}),
        ("renewed", {"reason": "no_subscription"}, {"10"}),
    ],
)
def test_each_answer_on_the_way_counts(step: str, fact: dict[str, Any], wrong: set[str]) -> None:
    facts, seen = honest()
    assert false_ones({**facts, step: {**facts[step], **fact}}, seen) == wrong


def test_the_report_is_short_and_fits_a_terminal() -> None:
    facts, seen = honest()
    identities = tuple(check_life(facts, seen, work_out(JANUARY)))
    text = LifeReport(JANUARY, facts, seen, identities, "x/INV-1.pdf").to_text()
    assert text.endswith("All 10 identities are true.\n")
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) <= 150
    assert "2026-01-16  at noon asks what Pro would cost" in text


# Going on.


def test_a_torn_step_is_not_done_and_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "life.jsonl"
    with LifeJournal(path) as journal:
        assert journal.begun is None
        journal.begin({"start": "2026-01-01T00:00:00Z"})
        journal.add("open", {})
        journal.add("upgrade", {"net": Decimal("40.13")})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step":"late","fac')
    with LifeJournal(path) as journal:
        assert journal.facts == {"open": {}, "upgrade": {"net": Decimal("40.13")}}
    assert path.read_bytes() == whole
    path.write_bytes(whole + b"[]\n")
    with pytest.raises(UsageError, match="damaged at line 4"):
        LifeJournal(path)


async def test_a_repeated_step_makes_its_calls_under_the_same_keys(fake: FakeServer, tmp_path: Path) -> None:
    async with Api(fake.url, "sk_test_fake") as api:
        with LifeJournal(tmp_path / "life.jsonl") as journal:
            stage = Stage(api, JANUARY, journal)
            stage.enter("upgrade")
            first = [stage.key(), stage.key()]
            stage.enter("upgrade")
            assert [stage.key(), stage.key()] == first
            stage.enter("downgrade")
            assert stage.key() not in first


async def test_a_life_does_not_go_on_at_other_dates_than_its_own(fake: FakeServer, tmp_path: Path) -> None:
    """Someone turned the clock after it had been interrupted: what came of it would not be what is told."""
    async with Api(fake.url, "sk_test_fake") as api:
        with LifeJournal(tmp_path / "life.jsonl") as journal:
            clock = OrganizationClock(api, datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC))
            with pytest.raises(UsageError, match="another one begins next month"):
                await live(Stage(api, JANUARY, journal), clock)
    assert fake.log == []


def test_the_life_waits_for_the_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "begun.json").write_text("{}")
    arguments = ["life", "--url", "http://127.0.0.1:9", "--secret-key", "k", "--state-dir", str(tmp_path)]
    assert main(arguments) == 2
    assert "is not finished" in capsys.readouterr().err
    (tmp_path / "finished.json").write_text("{}")
    assert main(arguments) == 3, "now it asks the server"


@pytest.mark.parametrize(("holds", "code"), [("true", 0), ("false", 1)])
def test_a_finished_life_is_shown_from_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], holds: str, code: int
) -> None:
    (tmp_path / "life").mkdir()
    (tmp_path / "life" / "finished.json").write_text(f'{{"identities_hold":{holds}}}')
    (tmp_path / "life" / "report.txt").write_text("what was lived\n")
    arguments = ["life", "--url", "http://127.0.0.1:9", "--secret-key", "k", "--state-dir", str(tmp_path)]
    assert main(arguments) == code
    assert capsys.readouterr().out == "what was lived\n"
