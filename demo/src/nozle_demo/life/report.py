"""The life as it is told: for each customer the dates, what was done, what came of it and why; then the identities."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from nozle_demo.exact import Json
from nozle_demo.identity import Identity
from nozle_demo.life.identities import CANCELLED
from nozle_demo.life.months import Months
from nozle_demo.life.observed import CreditNote, Fee, LifeInvoice, LifeObserved
from nozle_demo.life.story import ADA, BERT, CLEO, DORA, EMIL, FINN, FINN_LATE_CALLS, PEOPLE
from nozle_demo.report import render_identities

_WIDTH = 100
_MARGIN = " " * 12
_TITLES = {
    ADA: "up in mid-month, down when the period ends",
    BERT: "cancels at the period's end",
    CLEO: "cancels at once and is refunded",
    DORA: "a coupon for three months, VAT, a one-off invoice",
    EMIL: "a trial, a minimum, and a prepaid wallet that pays",
    FINN: "calls that come after the invoice",
}
# What every explanation ends with where there is no tax.
_NO_TAX = "No tax applies."


@dataclass(frozen=True)
class LifeReport:
    """What was lived and seen, and the identities checked on it."""

    months: Months
    facts: dict[str, Json]
    seen: LifeObserved
    identities: tuple[Identity, ...]
    pdf: str

    @property
    def holds(self) -> bool:
        return all(identity.holds for identity in self.identities)

    def to_json(self) -> Json:
        return {
            "start": f"{self.months.first:%Y-%m-%d}",
            "invoices": {
                name: [{"number": one.number, "total_amount_cents": one.total_cents} for one in invoices]
                for name, invoices in self.seen.invoices.items()
            },
            "pdf": self.pdf,
            "identities": [identity.to_json() for identity in self.identities],
            "identities_hold": self.holds,
        }

    def to_text(self) -> str:
        return "\n".join(line.rstrip() for line in _Telling(self).lines()) + "\n"


class _Telling:
    """Lines of the report. An invoice stands under the deed that made it, or under its own date."""

    def __init__(self, report: LifeReport) -> None:
        self._report, self._facts, self._seen = report, report.facts, report.seen
        self._at = report.months.at

    def lines(self) -> Iterator[str]:
        stories = {
            ADA: self._ada,
            BERT: self._bert,
            CLEO: self._cleo,
            DORA: self._dora,
            EMIL: self._emil,
            FINN: self._finn,
        }
        yield _rule("A month of life: six customers, two months, told in dates")
        yield "Starter 29.00: calls 0.10 each, from the 101st 0.05. Pro 99.00: calls 0.05, from the 101st 0.02;"
        yield "2.00 per 1,000 pages after 500. Team 60.00: 10 days of trial; pages as on Pro, 10.00 at least."
        yield "All are paid a month in advance, usage afterwards. Amounts are in USD."
        for name, tell in stories.items():
            yield ""
            yield _rule(f"{PEOPLE[name]}: {_TITLES[name]}")
            yield from tell()
        yield ""
        yield from render_identities(self._report.identities)

    def _ada(self) -> Iterator[str]:
        first, upgrade, second, last = self._seen.invoices[ADA]
        shown = self._facts["upgrade"]
        yield _dated(self._at(0, 1), "subscribes to Starter")
        yield from _invoice(first)
        yield _dated(self._at(0, 16), "at noon asks what Pro would cost, and changes to it")
        net = f"{_money(shown['debit_amount_cents'])} less {_money(shown['credit_amount_cents'])} credited"
        yield f"{_MARGIN}the preview said: {net} = {_money(shown['amount_due_now_cents'])}"
        yield from _invoice(upgrade)
        yield from _why(_fee(upgrade, "subscription"))
        yield from _note(self._seen.credit_notes[ADA][0], "the unused rest of Starter")
        yield from _why_invoice(upgrade)
        yield _dated(self._at(1, 1), "the next month of Pro, and what she used of it")
        yield from _invoice(second)
        down = self._facts["downgrade"]
        yield _dated(
            self._at(1, 10), f"goes back to Starter, on {str(down['effective_at'])[:10]}; Pro until then"
        )
        yield _dated(self._at(2, 1), "Starter again, and her last calls at Pro's prices")
        yield from _invoice(last)
        yield from _why(_fee(last, "charge"))

    def _bert(self) -> Iterator[str]:
        first, last = self._seen.invoices[BERT]
        yield _dated(self._at(0, 1), "subscribes to Starter")
        yield from _invoice(first)
        ends = str(self._facts["cancel-later"]["ends_at"])[:10]
        yield _dated(self._at(0, 18), f"cancels; it is paid until {ends}. {self._can('cancel-later')}")
        yield _dated(self._at(0, 25), self._can("still-there"))
        yield _dated(self._at(1, 1), f"it has ended. {self._can('renewed')}")
        yield from _invoice(last)

    def _cleo(self) -> Iterator[str]:
        first, last = self._seen.invoices[CLEO]
        yield _dated(self._at(0, 1), f"subscribes to Pro and pays {_money(first.paid_cents)}")
        yield from _invoice(first)
        yield _dated(self._at(0, 20), f"cancels at once. {self._can('cancel-now')}")
        yield from _note(self._seen.credit_notes[CLEO][0], "refunded, the days after this one")
        yield from _invoice(last)

    def _dora(self) -> Iterator[str]:
        first, second, setup, last = self._seen.invoices[DORA]
        yield _dated(self._at(0, 1), "subscribes to Pro with a coupon, 10 % for three months")
        yield from _invoice(first)
        yield _dated(self._at(1, 1), "the second month, and the usage of the first")
        yield from _invoice(second)
        yield from _why(_fee(second, "charge"))
        yield from _why_invoice(second)
        yield f"{_MARGIN}as PDF: {self._report.pdf}"
        yield _dated(self._at(1, 12), "buys a setup, once; coupons are for plans")
        yield from _invoice(setup)
        yield from _why(_fee(setup, "add_on"))
        yield _dated(self._at(2, 1), "the third month, the coupon's last")
        yield from _invoice(last)

    def _emil(self) -> Iterator[str]:
        bought, trial, second, last = self._seen.invoices[EMIL]
        yield _dated(
            self._at(0, 1), f"buys {_money(bought.total_cents)} of credit, then tries Team for 10 days"
        )
        yield from _invoice(bought)
        yield _dated(self._at(0, 11), "the trial is over, the rest of the month is paid from the wallet")
        yield from _invoice(trial)
        yield from _why(_fee(trial, "subscription"))
        yield _dated(self._at(1, 1), "what the wallet has pays a part; 300 pages miss the minimum")
        yield from _invoice(second)
        yield from _why(second.fees[-1])
        yield _dated(self._at(1, 15), "gets 100.00 of credit as a gift")
        yield _dated(
            self._at(2, 1), f"the wallet pays everything and keeps {_money(self._seen.wallet_cents)}"
        )
        yield from _invoice(last)

    def _finn(self) -> Iterator[str]:
        first, second, last = self._seen.invoices[FINN]
        late = self._facts["late"]
        to_come = sum(int(one["net_amount_cents"]) for one in late["adjustments"])
        yield _dated(self._at(0, 1), "subscribes to Starter with 5.00 off, once")
        yield from _invoice(first)
        yield _dated(self._at(1, 1), "96 calls of the first month are billed")
        yield from _invoice(second)
        yield _dated(
            self._at(1, 5), f"{FINN_LATE_CALLS} more calls of that month come, too late for {late['number']}"
        )
        yield f"{_MARGIN}GET /invoices/{{id}}/adjustments shows {_money(to_come)} to come"
        yield _dated(self._at(2, 1), "the next invoice has them, at the tiers of all 103")
        yield from _invoice(last)
        yield from _why(next((fee for fee in last.fees if fee.is_correction), None))

    def _can(self, step: str) -> str:
        fact = self._facts[step]
        word = "true" if fact["allowed"] else "false"
        reason = f", {CANCELLED}" if fact["reason"] == CANCELLED else ""
        return f"can(): {word}{reason}"


def _rule(title: str) -> str:
    return f"── {title} ".ljust(_WIDTH, "─")


def _dated(at: datetime, text: str) -> str:
    return f"{at:%Y-%m-%d}  {text}"


def _invoice(invoice: LifeInvoice) -> Iterator[str]:
    """What is on it, in one or more lines, and its total at their end."""
    parts = [f"{fee.name} {_money(fee.amount_cents)}" for fee in invoice.fees if fee.amount_cents]
    taken = (
        ("coupon -", invoice.coupons_cents),
        ("VAT ", invoice.taxes_cents),
        ("credit note -", invoice.credit_notes_cents),
        ("wallet -", invoice.wallet_cents),
    )
    parts += [f"{word}{_money(cents)}" for word, cents in taken if cents]
    text = f"{invoice.number}: {'; '.join(parts)}"
    *before, last = textwrap.wrap(text, _WIDTH - len(_MARGIN) - 12, subsequent_indent=" " * 4)
    yield from (f"{_MARGIN}{line}" for line in before)
    total = f"= {_money(invoice.total_cents)}"
    yield f"{_MARGIN}{last}{total:>{_WIDTH - len(_MARGIN) - len(last)}}"


def _note(note: CreditNote, what: str) -> Iterator[str]:
    yield f"{_MARGIN}{note.number}: {what}, {_money(note.total_cents)} of {note.invoice_number}"


def _fee(invoice: LifeInvoice, kind: str) -> Fee | None:
    return next((fee for fee in invoice.fees if fee.kind == kind), None)


def _why(fee: Fee | None) -> Iterator[str]:
    """The server's own sentences about a fee."""
    if fee is not None:
        yield from _quoted([sentence for sentence in fee.sentences if sentence != _NO_TAX])


def _why_invoice(invoice: LifeInvoice) -> Iterator[str]:
    yield from _quoted(list(invoice.sentences))


def _quoted(sentences: list[str]) -> Iterator[str]:
    """Sentences one after the other, as a paragraph set off by a bar."""
    lead = f"{_MARGIN}  | "
    yield from textwrap.wrap(
        " ".join(sentences), _WIDTH, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False
    )


def _money(cents: object) -> str:
    return f"{Decimal(str(cents)).scaleb(-2):,.2f}"
