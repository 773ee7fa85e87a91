"""Why a line says what it says, in sentences: pure, from what is stored with the line.

Every step of a line's walk has a kind (`rating/lines.py`, `fees.py`, `workflows/adjust_periods.py`), and every kind its
sentence. Amounts are written in major units with all their decimals, so that the sentences can be added up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from nozle_server.core.money import exponent, to_major
from nozle_server.core.numbers import to_plain
from nozle_server.invoicing.model import CreditKind, Invoice, InvoiceLine, LineKind

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What a line's explanation needs beside the line: the invoice it is on (None: none yet), names and prices.

    `price` is the price that was applied, as the catalog writes it; `aggregation` how events became the quantity.
    """

    invoice: Invoice | None
    timezone: str
    plan_name: str | None = None
    plan_code: str | None = None
    plan_version: int | None = None
    metric_name: str | None = None
    aggregation: str | None = None
    charge_model: str | None = None
    filter_values: Mapping[str, tuple[str, ...]] | None = None


_AGGREGATIONS = {
    "count_agg": "counted",
    "sum_agg": "summed up",
    "max_agg": "the highest one taken",
    "unique_count_agg": "counted once a value",
    "latest_agg": "the latest one taken",
    "weighted_sum_agg": "summed up, each by the time it held",
}


def sentences(line: InvoiceLine, context: Context) -> list[str]:
    """The line's story, in order: what it is for, the events, the price, the walk, rounding, what reduced and taxed it."""
    money = _Money(line.currency)
    told = [_subject(line, context)]
    told += _usage(line, context)
    told += [text for step in line.steps if (text := _SENTENCES.get(step["kind"], _other)(step, line, money))]
    told.append(_rounding(line, money))
    told += _reductions(line, money)
    told += _taxes(line, money)
    return told


@dataclass(frozen=True, slots=True)
class _Money:
    currency: str

    def __call__(self, cents: object) -> str:
        """All decimals that there are, and no fewer than the currency has."""
        whole, _, fraction = to_plain(to_major(Decimal(str(cents)), self.currency)).partition(".")
        fraction = fraction.ljust(exponent(self.currency), "0")
        return f"{whole}.{fraction} {self.currency}" if fraction else f"{whole} {self.currency}"


def _subject(line: InvoiceLine, context: Context) -> str:
    text = {
        LineKind.SUBSCRIPTION: "The fixed fee of {plan}",
        LineKind.CHARGE: "Usage of {metric} on {plan}",
        LineKind.FIXED_CHARGE: "The fixed charge {item} of {plan}",
        LineKind.ADD_ON: "{item}, sold once",
        LineKind.COMMITMENT: "What was missing of the minimum commitment of {plan}",
        LineKind.CREDIT: "Credits bought for a wallet",
    }[line.kind].format(
        plan=f"{context.plan_name or 'a plan'}, version {context.plan_version}",
        metric=context.metric_name or line.metric_code,
        item=line.item_name or line.description,
    )
    if line.period_start and line.period_end:
        text += f", for {_instant(line.period_start, context)} up to {_instant(line.period_end, context)}"
    if line.adjusts_invoice_id:
        text += ": a correction, because events for that period came after it had been invoiced"
    if line.event_transaction_id:
        text += f": priced at once when the event {line.event_transaction_id} came"
    if line.true_up_of:
        text += ": what was missing of the charge's minimum"
    return f"{text}."


def _usage(line: InvoiceLine, context: Context) -> list[str]:
    if line.kind is not LineKind.CHARGE or line.true_up_of:
        return []
    how = _AGGREGATIONS.get(context.aggregation or "", "aggregated")
    events = "1 event" if line.events_count == 1 else f"{line.events_count} events"
    text = f"{events}, {how}: {_units(line.units)}"
    if context.filter_values:
        wanted = "; ".join(f"{key} is {' or '.join(values)}" for key, values in context.filter_values.items())
        text += f", of those where {wanted}"
    if line.grouped_by:
        groups = ", ".join(f"{key} = {value or 'none'}" for key, value in line.grouped_by.items())
        text += f", of the group {groups}"
    told = [f"{text}."]
    if context.charge_model:
        told.append(f"The price is {context.charge_model.replace('_', ' ')}.")
    return told


def _priced(words: str) -> Callable[[Step, InvoiceLine, _Money], str]:
    def tell(step: Step, line: InvoiceLine, money: _Money) -> str:
        del line
        text = f"{to_plain(Decimal(str(step['units'])))} {words} at {money(step['unit_price_cents'])} each"
        if Decimal(str(step.get("flat_cents") or 0)):
            text += f" and a flat {money(step['flat_cents'])}"
        return f"{_label(step)}{text}: {money(step['amount_cents'])}."

    return tell


def _amount(words: str) -> Callable[[Step, InvoiceLine, _Money], str]:
    def tell(step: Step, line: InvoiceLine, money: _Money) -> str:
        del line
        return f"{_label(step)}{words}: {money(step['amount_cents'])}."

    return tell


def _label(step: Step) -> str:
    """Which tier; the last one has no end."""
    label = step.get("label") or ""
    if label.endswith("-"):
        return f"From {label[:-1]} on: "
    return f"{label}: " if label else ""


def _units(quantity: Decimal) -> str:
    return "1 unit" if quantity == 1 else f"{to_plain(quantity)} units"


def _free(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line, money
    units = Decimal(str(step["units"]))
    return f"{to_plain(units)} units are free." if units else ""


def _percentage(step: Step, line: InvoiceLine, money: _Money) -> str:
    # A unit is one major unit of money.
    del line
    return (
        f"{_label(step)}{to_plain(Decimal(str(step['units'])))} {money.currency} of transactions, at"
        f" {money(step['unit_price_cents'])} for each of them: {money(step['amount_cents'])}."
    )


def _add_on(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line
    units = to_plain(Decimal(str(step["units"])))
    return f"{units} of it at {money(step['unit_amount_cents'])} each: {money(step['amount_cents'])}."


def _fixed_fee(step: Step, line: InvoiceLine, money: _Money) -> str:
    if "days" not in step:
        return _priced("events")(step, line, money)
    days, whole = step["days"], step["whole_days"]
    trial = f" {step['trial_days']} days were free on trial." if step.get("trial_days") else ""
    if days == whole:
        return f"A whole period of {whole} days: {money(step['amount_cents'])}.{trial}"
    full = money(step["full_amount_cents"])
    return f"{days} of {whole} days of {full}: {money(step['amount_cents'])}.{trial}"


def _proration(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line
    if "full_amount_cents" not in step:
        units, days = to_plain(Decimal(str(step["units"]))), step["days"]
        return (
            f"By the days they were there it counts as {units} units ({days} of {step['whole_days']} days)."
        )
    full = money(step["full_amount_cents"])
    return f"{step['days']} of {step['whole_days']} days of {full}: {money(step['amount_cents'])}."


def _commitment(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line
    text = f"The commitment is {money(step['full_amount_cents'])}"
    if step["days"] != step["whole_days"]:
        text += f", for {step['days']} of {step['whole_days']} days {money(step['committed_cents'])}"
    return f"{text}; {money(step['billed_cents'])} are billed, {money(step['amount_cents'])} are missing."


def _weighted_sum(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line, money
    units, seconds = to_plain(Decimal(str(step["units"]))), to_plain(Decimal(str(step["unit_seconds"])))
    return f"{seconds} unit seconds over {step['whole_seconds']} seconds of the period: {units} units."


def _rounded_units(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line, money
    before, after = to_plain(Decimal(str(step["units_before"]))), to_plain(Decimal(str(step["units"])))
    return f"The metric rounds {before} units to {after}."


def _minimum(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line
    return (
        f"The charge costs at least {money(step['minimum_cents'])}; {money(step['used_cents'])} were used:"
        f" {money(step['amount_cents'])} are missing."
    )


def _correction(step: Step, line: InvoiceLine, money: _Money) -> str:
    del line
    if "committed_cents" in step:
        return (
            f"The commitment is {money(step['committed_cents'])}; with the correction {money(step['billed_cents'])} are"
            f" billed, and {money(step['trued_up_cents'])} had been added."
        )
    return (
        f"Now it comes to {money(step['now_exact_cents'])}; {money(step['billed_exact_cents'])} was billed for it before:"
        f" {money(step['amount_cents'])}."
    )


def _other(step: Step, line: InvoiceLine, money: _Money) -> str:
    return _amount(str(step["kind"]).replace("_", " "))(step, line, money)


_SENTENCES: Mapping[str, Callable[[Step, InvoiceLine, _Money], str]] = {
    "units": _priced("units"),
    "prorated_units": _priced("units, counted by the part of the period they were there,"),
    "free_units": _free,
    "tier": _priced("units"),
    "volume_tier": _priced("units"),
    "packages": _priced("packages"),
    "percentage": _percentage,
    "add_on": _add_on,
    "fixed_fee": _fixed_fee,
    "dynamic": _amount("The sum of the prices that the events brought with them"),
    "transaction_minimum": _amount("Added where an event's price was below its minimum"),
    "transaction_maximum": _amount("Taken off where an event's price was above its maximum"),
    "floor_at_zero": _amount("Raised to zero, as no line is negative"),
    "before_event": _amount("Taken off, as it was paid with earlier events"),
    "minimum": _minimum,
    "weighted_sum": _weighted_sum,
    "rounding": _rounded_units,
    "proration": _proration,
    "commitment": _commitment,
    "correction": _correction,
}


def _rounding(line: InvoiceLine, money: _Money) -> str:
    if line.exact_amount_cents == line.amount_cents:
        return f"That is {money(line.amount_cents)} exactly."
    return (
        f"The exact amount {money(line.exact_amount_cents)} is rounded once, half away from zero:"
        f" {money(line.amount_cents)}."
    )


def _reductions(line: InvoiceLine, money: _Money) -> list[str]:
    if not line.coupons_exact_amount_cents:
        return []
    return [f"Its share of the invoice's coupons is {money(line.coupons_exact_amount_cents)}."]


def _taxes(line: InvoiceLine, money: _Money) -> list[str]:
    if not line.applied_taxes:
        return ["No tax applies."]
    return [
        f"{tax.name}, {to_plain(tax.rate)} % of {money(tax.base_cents)}: {money(tax.amount_cents)}."
        for tax in line.applied_taxes
    ]


def invoice_sentences(invoice: Invoice) -> list[str]:
    """From the lines of an invoice to what is to be paid."""
    money = _Money(invoice.currency)
    words = {
        CreditKind.PROGRESSIVE: "Charged before, on",
        CreditKind.COUPON: "Coupon",
        CreditKind.CREDIT_NOTE: "Credit note",
        CreditKind.WALLET: "Paid from the wallet",
    }
    told = [f"The lines of invoice {invoice.number} come to {money(invoice.fees_amount_cents)}."]
    told += [
        f"{words[one.kind]} {one.label}: {money(one.amount_cents)} less."
        for one in invoice.credits
        if one.kind in (CreditKind.PROGRESSIVE, CreditKind.COUPON)
    ]
    told += [
        f"{tax.name}, {to_plain(tax.rate)} % of {money(tax.base_cents)}: {money(tax.amount_cents)} more."
        for tax in invoice.applied_taxes
    ]
    told += [
        f"{words[one.kind]} {one.label}: {money(one.amount_cents)} less."
        for one in invoice.credits
        if one.kind in (CreditKind.CREDIT_NOTE, CreditKind.WALLET)
    ]
    told.append(f"To be paid: {money(invoice.total_amount_cents)}.")
    return told


def _instant(at: datetime, context: Context) -> str:
    return at.astimezone(ZoneInfo(context.timezone)).strftime("%Y-%m-%d %H:%M %Z")
