"""The identities of the life. The sides of each come from different places: the invoices, other answers, or our own sums."""

from collections.abc import Iterator

from nozle_demo.exact import Json
from nozle_demo.identity import Comparison, Identity
from nozle_demo.life.expected import LifeExpected
from nozle_demo.life.observed import LifeInvoice, LifeObserved
from nozle_demo.life.story import ADA, CLEO, EMIL, FINN

CANCELLED = "subscription_cancelled"


def check_life(facts: dict[str, Json], seen: LifeObserved, expected: LifeExpected) -> list[Identity]:
    """All of them, in the order in which they are reported; amounts are in cents."""
    return [
        *_invoices(seen, expected),
        _preview(facts["upgrade"], seen),
        _in_advance(seen, expected),
        _wallet(seen),
        _late(facts["late"], seen, expected),
        _access(facts),
    ]


def _invoices(seen: LifeObserved, expected: LifeExpected) -> Iterator[Identity]:
    parts = ("fees", "coupons", "taxes", "credits")
    total = Comparison("1", "total = fees - coupons + taxes - credits (cents)", left=("totals",), right=parts)
    own = Comparison(
        "2", "invoiced = worked out here by hand (cents)", left=("invoiced",), right=("worked out",)
    )
    coupons = Comparison(
        "3", "coupons = their part of the fees (cents)", left=("given",), right=("worked out",)
    )
    taxes = Comparison(
        "4", "taxes = 20 % of the fees less coupons (cents)", left=("taxed",), right=("worked out",)
    )
    steps = Comparison(
        "5", "exact fees = the steps of their explanations (cents)", left=("fees",), right=("explained",)
    )
    for name, invoice in seen.every_invoice():
        item = f"{name}, {invoice.number}"
        total.add(item, (invoice.total_cents,), _signed_parts(invoice))
        total.also(f"{item}, lines", invoice.fees_cents, sum(fee.amount_cents for fee in invoice.fees))
        for fee in invoice.fees:
            # What a wallet is filled with has a price, and no walk to it.
            if fee.steps:
                steps.add(f"{item}, {fee.name}", (fee.exact_cents,), (fee.explained_cents,))
    for name, bills in expected.bills.items():
        invoices = seen.invoices[name]
        own.also(f"{name}, invoices", len(invoices), len(bills))
        for invoice, bill in zip(invoices, bills, strict=False):
            item = f"{name}, {invoice.number}"
            own.add(item, (invoice.total_cents,), (bill.total_cents,))
            own.also(f"{item}, fees", invoice.fees_cents, bill.fees_cents)
            own.also(f"{item}, credits", _credits(invoice), bill.credit_cents + bill.wallet_cents)
            coupons.add(item, (invoice.coupons_cents,), (bill.coupons_cents,))
            taxes.add(item, (invoice.taxes_cents,), (bill.taxes_cents,))
    return iter((total.done(), own.done(), coupons.done(), taxes.done(), steps.done()))


def _preview(shown: Json, seen: LifeObserved) -> Identity:
    same = Comparison(
        "6", "the preview of the upgrade = its invoice (cents)", left=("to be paid",), right=("invoiced",)
    )
    invoice, note = _of_upgrade(shown, seen), seen.credit_notes[ADA][0]
    same.add("to be paid", (int(shown["amount_due_now_cents"]),), (invoice.total_cents,))
    same.also("charged", int(shown["debit_amount_cents"]), invoice.fees_cents)
    same.also("credited", int(shown["credit_amount_cents"]), note.total_cents)
    same.also("net", int(shown["net_amount_cents"]), invoice.fees_cents - note.total_cents)
    return same.done()


def _of_upgrade(shown: Json, seen: LifeObserved) -> LifeInvoice:
    """The invoice that the upgrade named; its id in that answer has a prefix and no dashes."""
    wanted = str(shown["invoice_id"]).removeprefix("inv_")
    return next(one for one in seen.invoices[ADA] if one.id.replace("-", "") == wanted)


def _in_advance(seen: LifeObserved, expected: LifeExpected) -> Identity:
    """Ada paid for a month of Starter and changed in its midst, Cleo for one of Pro and left."""
    split = Comparison(
        "7",
        "paid in advance = credited + kept for the days used (cents)",
        left=("paid",),
        right=("credited", "kept"),
    )
    for name, kept in ((ADA, expected.ada_kept_cents), (CLEO, expected.cleo_kept_cents)):
        first, note = seen.invoices[name][0], seen.credit_notes[name][0]
        split.add(name, (first.fees_cents,), (note.total_cents, kept))
    split.also(
        f"{CLEO}, refunded", seen.credit_notes[CLEO][0].refund_cents, seen.credit_notes[CLEO][0].total_cents
    )
    split.also(f"{CLEO}, paid", seen.invoices[CLEO][0].paid_cents, seen.invoices[CLEO][0].total_cents)
    return split.done()


def _wallet(seen: LifeObserved) -> Identity:
    wallet = Comparison(
        "8", "put into the wallet = used on invoices + left (cents)", left=("put in",), right=("used", "left")
    )
    used = sum(invoice.wallet_cents for invoice in seen.invoices[EMIL])
    wallet.add(EMIL, (seen.topped_up_cents,), (used, seen.wallet_cents))
    return wallet.done()


def _late(shown: Json, seen: LifeObserved, expected: LifeExpected) -> Identity:
    late = Comparison(
        "9",
        "late calls: what was to come = the correction = the tiers walked again (cents)",
        left=("was to come",),
        right=("corrected",),
    )
    to_come = sum(int(one["net_amount_cents"]) for one in shown["adjustments"] if one["status"] == "pending")
    corrected = sum(fee.amount_cents for one in seen.invoices[FINN] for fee in one.fees if fee.is_correction)
    late.add(FINN, (to_come,), (corrected,))
    late.also(f"{FINN}, worked out", corrected, expected.late_cents)
    return late.done()


def _access(facts: dict[str, Json]) -> Identity:
    access = Comparison(
        "10", "can() is allowed as long as it was paid for", left=("allowed",), right=("paid for",)
    )
    for step, paid_for in (("cancel-later", 1), ("still-there", 1), ("renewed", 0), ("cancel-now", 0)):
        access.add(step, (int(facts[step]["allowed"]),), (paid_for,))
        if not paid_for:
            access.also(f"{step}, {CANCELLED}", int(facts[step]["reason"] == CANCELLED), 1)
    return access.done()


def _signed_parts(invoice: LifeInvoice) -> tuple[int, int, int, int]:
    return invoice.fees_cents, -invoice.coupons_cents, invoice.taxes_cents, -_credits(invoice)


def _credits(invoice: LifeInvoice) -> int:
    return invoice.credit_notes_cents + invoice.wallet_cents
