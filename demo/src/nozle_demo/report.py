"""The report: what was played, what it came to, and whether the identities hold; as text and as JSON."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from io import StringIO

from rich.console import Console
from rich.table import Table

from nozle_demo.customers import CUSTOMERS, PRO
from nozle_demo.evidence import Evidence
from nozle_demo.exact import Json, plain
from nozle_demo.identity import Identity, Part, total
from nozle_demo.observed import DEDUCT, EXPIRE, GRANT, Invoice, MarginRow

_WIDTH = 100
_ACCEPTED = frozenset({"accepted", "stored"})
_INVOICE_IN_FULL = PRO


@dataclass(frozen=True)
class Report:
    """Evidence, the identities checked on it, and the speed of the run that played last."""

    evidence: Evidence
    identities: tuple[Identity, ...]
    speed: Json

    @property
    def holds(self) -> bool:
        return all(identity.holds for identity in self.identities)

    def to_json(self) -> Json:
        evidence, figures = self.evidence, Figures.of(self.evidence)
        invoice = evidence.invoice(figures.shown_customer)
        return {
            "trace": {"name": evidence.trace.name, "sha256": evidence.trace.sha256},
            "requests_read": figures.requests,
            "input_tokens_read": figures.input_tokens,
            "output_tokens_read": figures.output_tokens,
            "allowed": dict(figures.allowed),
            "denied": dict(figures.denied),
            "events_stored": figures.events,
            "events_not_accepted": dict(figures.not_accepted),
            "credits": figures.credits,
            "invoice": None if invoice is None else _invoice_json(figures.shown_customer, invoice),
            "margin": _margin_json(evidence.observed.margin),
            "margin_by_customer": [
                _margin_json(row) for row in evidence.observed.margin_by_customer.values()
            ],
            "margin_by_model": [_margin_json(row) for row in evidence.observed.margin_by_model.values()],
            "speed": self.speed,
            "identities": [identity.to_json() for identity in self.identities],
            "identities_hold": self.holds,
        }

    def to_text(self) -> str:
        return render(self)


@dataclass(frozen=True)
class Figures:
    """Plain counts of the replay."""

    requests: int
    input_tokens: int
    output_tokens: int
    allowed: Counter[str]
    denied: Counter[str]
    events: int
    not_accepted: Counter[str]
    credits: dict[str, Decimal]
    shown_customer: str

    @classmethod
    def of(cls, evidence: Evidence) -> "Figures":
        outcomes = evidence.outcomes.values()
        requests = evidence.trace.requests
        kinds = {"granted": GRANT, "spent": DEDUCT, "expired": EXPIRE}
        credits = {
            name: sum((evidence.moved(each.external_id, kind) for each in CUSTOMERS), Decimal(0))
            for name, kind in kinds.items()
        }
        left = sum((reading.balance for reading in evidence.closing.readings.values()), Decimal(0))
        return cls(
            requests=len(requests),
            input_tokens=sum(request.input_tokens for request in requests),
            output_tokens=sum(request.output_tokens for request in requests),
            allowed=Counter(outcome.reason for outcome in outcomes if outcome.allowed),
            denied=Counter(outcome.reason for outcome in outcomes if not outcome.allowed),
            events=sum(row.events_count for row in evidence.observed.margin_by_customer.values()),
            not_accepted=Counter(
                str(outcome.status)
                for outcome in outcomes
                if outcome.allowed and outcome.status not in _ACCEPTED
            ),
            credits={"granted": credits["granted"], "spent": credits["spent"], "left": left, **credits},
            shown_customer=_customer_to_show(evidence),
        )


def render(report: Report) -> str:
    """The report for a terminal of 100 columns, without colours."""
    page = StringIO()
    console = Console(file=page, width=_WIDTH, color_system=None, highlight=False, emoji=False, markup=False)
    evidence, figures = report.evidence, Figures.of(report.evidence)
    console.rule(f"Nozle demonstration: {evidence.trace.name.rsplit('/', 1)[-1]}")
    _render_figures(console, report, figures)
    invoice = evidence.invoice(figures.shown_customer)
    if invoice is not None:
        _render_invoice(console, figures.shown_customer, invoice)
    _render_margin(console, evidence)
    _render_identities(console, report)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def _render_figures(console: Console, report: Report, figures: Figures) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("requests read", f"{figures.requests:,}")
    table.add_row("input tokens read", f"{figures.input_tokens:,}")
    table.add_row("output tokens read", f"{figures.output_tokens:,}")
    for word, counts in (("allowed", figures.allowed), ("denied", figures.denied)):
        table.add_row(f"calls {word}", f"{counts.total():,}")
        for reason, count in counts.most_common():
            table.add_row(f"    {reason}", f"{count:,}")
    table.add_row("events stored", f"{figures.events:,}")
    table.add_row("events late or unmatched", f"{figures.not_accepted.total():,}")
    for status, count in figures.not_accepted.most_common():
        table.add_row(f"    {status}", f"{count:,}")
    for name, amount in figures.credits.items():
        table.add_row(f"credits {name}", plain(amount))
    wall_ms, requests, calls = (int(report.speed[key]) for key in ("wall_ms", "requests", "http_calls"))
    table.add_row("time taken, s", f"{wall_ms // 1000}.{wall_ms % 1000 // 100}")
    table.add_row("requests played per second", f"{requests * 1000 // max(wall_ms, 1):,}")
    table.add_row("HTTP calls per second", f"{calls * 1000 // max(wall_ms, 1):,}")
    console.print(table)
    if requests < figures.requests:
        console.print("(time and speed are those of the last run; the rows before it were played earlier)")


def _render_invoice(console: Console, customer: str, invoice: Invoice) -> None:
    console.print()
    console.rule(f"Invoice {invoice.number} of {customer}")
    console.print(
        f"{invoice.period_start} to {invoice.period_end}, issued {invoice.issued_on}, {invoice.status}"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("line")
    for heading in ("units", "exact, cents", f"amount, {invoice.currency}"):
        table.add_column(heading, justify="right")
    for line in invoice.lines:
        table.add_row(
            line.description, plain(line.units), plain(line.exact_cents), _money(Decimal(line.amount_cents))
        )
    table.add_row("total", "", "", _money(Decimal(invoice.total_cents)))
    console.print(table)


def _render_margin(console: Console, evidence: Evidence) -> None:
    plans = {each.external_id: f"{each.name} ({each.plan_code})" for each in CUSTOMERS}
    observed = evidence.observed
    for heading, rows in (("customer", observed.margin_by_customer), ("model", observed.margin_by_model)):
        console.print()
        console.rule(f"Margin by {heading}, rounded to the cent")
        table = Table(box=None, pad_edge=False)
        table.add_column(heading)
        for column in ("calls", "fee", "usage", "cost", "margin", "margin %"):
            table.add_column(column, justify="right")
        for label, row in sorted(rows.items(), key=lambda item: item[1].margin_cents, reverse=True):
            table.add_row(plans.get(label, label), *_margin_cells(row))
        if heading == "customer":
            table.add_row(
                "all" if not observed.strangers else "all, others included", *_margin_cells(observed.margin)
            )
        else:
            console.print("(a model earns usage only; fees belong to no model)")
        console.print(table)


def _margin_cells(row: MarginRow) -> tuple[str, ...]:
    amounts = (row.subscription_cents, row.usage_cents, row.cost_cents, row.margin_cents)
    percent = "-" if row.margin_percent is None else f"{_rounded(row.margin_percent, '0.1'):f}"
    return (f"{row.events_count:,}", *map(_money, amounts), percent)


def _render_identities(console: Console, report: Report) -> None:
    console.print()
    strangers = report.evidence.observed.strangers
    left_out = f"(customers that the demonstration did not make are left out of its totals: {', '.join(strangers[:5])})"
    for line in render_identities(report.identities, notes=(left_out,) if strangers else ()):
        console.print(line, soft_wrap=True)


def render_identities(identities: tuple[Identity, ...], notes: tuple[str, ...] = ()) -> Iterator[str]:
    """The identities under a heading, each with both sides and what is wrong with it; notes; and how many are false."""
    heading = " Identities, in exact decimals "
    yield heading.center(_WIDTH, "─")
    for identity in identities:
        verdict = "true " if identity.holds else "FALSE"
        yield f"{verdict}  {identity.number:<3} {identity.sentence}"
        yield f"           {_side(identity.left)} = {_side(identity.right)}"
        yield from (f"           ! {fault}" for fault in identity.faults)
    yield from notes
    yield ""
    count = sum(not identity.holds for identity in identities)
    yield f"{count} identities are FALSE." if count else f"All {len(identities)} identities are true."


def _side(parts: tuple[Part, ...]) -> str:
    if len(parts) == 1:
        return plain(parts[0][1])
    terms = "".join(f" {'-' if amount < 0 else '+'} {plain(abs(amount))} {name}" for name, amount in parts)
    return f"{terms.removeprefix(' + ')} ({plain(total(parts))})"


def _customer_to_show(evidence: Evidence) -> str:
    """The pro customer with the largest bill, whose invoice shows the most."""
    pro = [each.external_id for each in CUSTOMERS if each.plan_code == _INVOICE_IN_FULL]
    return max(pro, key=lambda external_id: evidence.bills[external_id].total_cents)


def _money(cents: Decimal) -> str:
    return f"{_rounded(cents.scaleb(-2), '0.01'):,f}"


def _rounded(amount: Decimal, step: str) -> Decimal:
    return amount.quantize(Decimal(step), rounding=ROUND_HALF_UP)


def _invoice_json(customer: str, invoice: Invoice) -> Json:
    lines = [
        {
            "kind": line.kind,
            "description": line.description,
            "units": line.units,
            "exact_amount_cents": line.exact_cents,
            "amount_cents": line.amount_cents,
        }
        for line in invoice.lines
    ]
    return {
        "customer_id": customer,
        "number": invoice.number,
        "status": invoice.status,
        "currency": invoice.currency,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "total_amount_cents": invoice.total_cents,
        "lines": lines,
    }


def _margin_json(row: MarginRow) -> Json:
    return {
        "label": row.label,
        "events_count": row.events_count,
        "revenue_cents": row.revenue_cents,
        "usage_revenue_cents": row.usage_cents,
        "subscription_revenue_cents": row.subscription_cents,
        "cost_cents": row.cost_cents,
        "margin_cents": row.margin_cents,
        "margin_percent": row.margin_percent,
    }
