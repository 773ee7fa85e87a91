"""What the server shows when the life is over: invoices with their fees and explanations, credit notes, the wallet."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal

from nozle_demo.client import Api, segment
from nozle_demo.exact import Json, decimal
from nozle_demo.life.story import PEOPLE, Stage

CORRECTION = "correction"


@dataclass(frozen=True)
class Fee:
    """A line of an invoice with the sentences and steps of its explanation; amounts in cents."""

    kind: str
    name: str
    amount_cents: int
    exact_cents: Decimal
    sentences: tuple[str, ...]
    steps: tuple[tuple[str, Decimal], ...]

    @property
    def is_correction(self) -> bool:
        """Whether it corrects what an earlier invoice said."""
        return any(kind == CORRECTION for kind, _ in self.steps)

    @property
    def explained_cents(self) -> Decimal:
        """What its steps come to. A correction walks the whole period again: its last step is the difference."""
        wanted = [cents for kind, cents in self.steps if not self.is_correction or kind == CORRECTION]
        return sum(wanted, Decimal(0))


@dataclass(frozen=True)
class LifeInvoice:
    """One invoice; amounts in cents."""

    id: str
    number: str
    issued_on: str
    kind: str
    fees_cents: int
    coupons_cents: int
    taxes_cents: int
    credit_notes_cents: int
    wallet_cents: int
    total_cents: int
    paid_cents: int
    fees: tuple[Fee, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class CreditNote:
    number: str
    issued_on: str
    invoice_number: str
    total_cents: int
    refund_cents: int


@dataclass(frozen=True)
class LifeObserved:
    """By name of the customer, oldest first; the wallet's balance and what was put into it, in cents."""

    invoices: dict[str, tuple[LifeInvoice, ...]]
    credit_notes: dict[str, tuple[CreditNote, ...]]
    wallet_cents: int
    topped_up_cents: Decimal

    def every_invoice(self) -> list[tuple[str, LifeInvoice]]:
        """With the name of its customer."""
        return [(name, invoice) for name, invoices in self.invoices.items() for invoice in invoices]


async def read_life(stage: Stage) -> LifeObserved:
    names = list(PEOPLE)
    invoices = await asyncio.gather(*(_read_invoices(stage, name) for name in names))
    notes = await asyncio.gather(*(_read_credit_notes(stage, name) for name in names))
    wallet_id = segment(str(stage.journal.facts["top-up"]["wallet_id"]))
    wallet = (await stage.api.get(f"/core/api/v1/wallets/{wallet_id}"))["wallet"]
    path = f"/core/api/v1/wallets/{wallet_id}/wallet_transactions?transaction_type=inbound&per_page=100"
    inbound = (await stage.api.get(path))["wallet_transactions"]
    settled = [decimal(one["amount"]) * 100 for one in inbound if one["status"] == "settled"]
    return LifeObserved(
        dict(zip(names, invoices, strict=True)),
        dict(zip(names, notes, strict=True)),
        int(wallet["balance_cents"]),
        sum(settled, Decimal(0)),
    )


async def _read_invoices(stage: Stage, name: str) -> tuple[LifeInvoice, ...]:
    listed = await stage.invoices(name)
    return tuple(await asyncio.gather(*(_read_invoice(stage.api, str(one["lago_id"])) for one in listed)))


async def _read_invoice(api: Api, invoice_id: str) -> LifeInvoice:
    item = (await api.get(f"/core/api/v1/invoices/{segment(invoice_id)}"))["invoice"]
    explained = await asyncio.gather(*(_explain(api, fee) for fee in item["fees"]))
    return LifeInvoice(
        invoice_id,
        str(item["number"]),
        str(item["issuing_date"]),
        str(item["invoice_type"]),
        int(item["fees_amount_cents"]),
        int(item["coupons_amount_cents"]),
        int(item["taxes_amount_cents"]),
        int(item["credit_notes_amount_cents"]),
        int(item["prepaid_credit_amount_cents"]),
        int(item["total_amount_cents"]),
        int(item["total_paid_amount_cents"]),
        tuple(map(_to_fee, item["fees"], explained)),
        tuple(explained[0]["invoice"]["sentences"]) if explained else (),
    )


async def _explain(api: Api, fee: Json) -> Json:
    answer = await api.get(f"/core/api/v1/fees/{segment(str(fee['lago_id']))}/explanation?per_page=1")
    found: Json = answer["explanation"]
    return found


def _to_fee(fee: Json, explanation: Json) -> Fee:
    return Fee(
        str(fee["item"]["type"]),
        str(fee["item"]["invoice_display_name"]),
        int(fee["amount_cents"]),
        decimal(explanation["rounding"]["exact_amount_cents"]),
        tuple(map(str, explanation["sentences"])),
        tuple((str(step["kind"]), decimal(step.get("amount_cents", 0))) for step in explanation["steps"]),
    )


async def _read_credit_notes(stage: Stage, name: str) -> tuple[CreditNote, ...]:
    path = f"/core/api/v1/customers/{segment(stage.id(name))}/credit_notes?per_page=100"
    found = (await stage.api.get(path))["credit_notes"]
    return tuple(
        CreditNote(
            str(one["number"]),
            str(one["issuing_date"]),
            str(one["invoice_number"]),
            int(one["total_amount_cents"]),
            int(one["refund_amount_cents"]),
        )
        for one in reversed(found)
    )
