"""What the stories of parity share. Each tells, in our own words, dates and figures that Lago's public scenarios
(https://github.com/getlago/lago-api/tree/main/spec/scenarios) give as facts, and asks our API what it comes to.

A bill is what is compared of an invoice, by short names: `on` (issuing date), `total`, `fees`, `coupons`, `before_tax`,
`taxes`, `notes`, `prepaid`, `progressive`, `status`, or the type of a fee with the amounts of all its fees but those of 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from world import World, with_query

Bill = Mapping[str, Any]

_AMOUNTS = {
    "total": "total_amount_cents",
    "fees": "fees_amount_cents",
    "coupons": "coupons_amount_cents",
    "before_tax": "sub_total_excluding_taxes_amount_cents",
    "taxes": "taxes_amount_cents",
    "notes": "credit_notes_amount_cents",
    "prepaid": "prepaid_credit_amount_cents",
    "progressive": "progressive_billing_credit_amount_cents",
    "on": "issuing_date",
    "status": "status",
}


async def invoices(world: World, customer: str = "acme") -> list[dict[str, Any]]:
    """The customer's invoices in Core's full form, oldest first."""
    found = await world.get("/core/api/v1/invoices", external_customer_id=customer, per_page=100)
    ids = [one["lago_id"] for one in reversed(found["invoices"])]
    return [(await world.get(f"/core/api/v1/invoices/{one}"))["invoice"] for one in ids]


def bill(invoice: Mapping[str, Any], wanted: Bill) -> dict[str, Any]:
    """Of the invoice, what is wanted."""
    return {name: _shown(invoice, name) for name in wanted}


def _shown(invoice: Mapping[str, Any], name: str) -> object:
    if name in _AMOUNTS:
        return invoice[_AMOUNTS[name]]
    of_type = [fee["amount_cents"] for fee in invoice["fees"] if fee["item"]["type"] == name]
    return [amount for amount in of_type if amount]


async def assert_bills(world: World, expected: Sequence[Bill]) -> None:
    """All the customer's invoices, oldest first, are exactly these."""
    found = await invoices(world)
    short = [
        {"on": one["issuing_date"], "total": one["total_amount_cents"], "type": one["invoice_type"]}
        for one in found
    ]
    assert len(found) == len(expected), short
    assert [bill(one, wanted) for one, wanted in zip(found, expected, strict=True)] == list(expected), short


async def notes(world: World) -> list[dict[str, Any]]:
    """The organization's credit notes, oldest first."""
    found = await world.get("/core/api/v1/credit_notes", per_page=100)
    return list(reversed(found["credit_notes"]))


async def credited(world: World) -> list[int]:
    return [note["total_amount_cents"] for note in await notes(world)]


async def start(world: World, when: str, plan: str = "pro", sub: str = "sub", **more: object) -> None:
    """acme takes the plan (or changes to it), as Core does it: with months of the calendar unless it says otherwise."""
    await world.at(when).assign("acme", plan, sub, **more)


async def end(world: World, when: str, sub: str = "sub", **query: object) -> None:
    await world.turn(when)
    answer = await world.call("DELETE", with_query(f"/core/api/v1/subscriptions/{quote(sub)}", query))
    assert answer.status == 200, answer.body


async def usage(world: World, sub: str = "sub") -> dict[str, Any]:
    found = await world.get("/core/api/v1/customers/acme/current_usage", external_subscription_id=sub)
    shown: dict[str, Any] = found["customer_usage"]
    return shown


async def costs(world: World, sub: str = "sub") -> int:
    """What the period's usage comes to now, in cents before taxes."""
    amount: int = (await usage(world, sub))["amount_cents"]
    return amount


async def a_tax(world: World, rate: str, code: str = "vat", applied: bool = True) -> str:
    tax = {"code": code, "name": code, "rate": rate, "applied_to_organization": applied}
    await world.post("/core/api/v1/taxes", {"tax": tax})
    return code


async def a_coupon(
    world: World, *, code: str = "off", amount_cents: int = 0, rate: str = "", **more: object
) -> None:
    """A coupon of money, or of a percentage, in acme's hands."""
    how: dict[str, object] = (
        {"coupon_type": "percentage", "percentage_rate": rate}
        if rate
        else {"coupon_type": "fixed_amount", "amount_cents": amount_cents, "amount_currency": "USD"}
    )
    made = {"code": code, "name": code, "frequency": "once", "expiration": "no_expiration", **how, **more}
    await world.post("/core/api/v1/coupons", {"coupon": made})
    await world.post(
        "/core/api/v1/applied_coupons",
        {"applied_coupon": {"external_customer_id": "acme", "coupon_code": code}},
    )


async def pay(world: World, invoice: Mapping[str, Any], amount_cents: int | None = None) -> None:
    amount = invoice["total_amount_cents"] if amount_cents is None else amount_cents
    payment = {"invoice_id": invoice["lago_id"], "amount_cents": amount, "reference": f"wire {amount}"}
    await world.post("/core/api/v1/payments", {"payment": payment})


def standard(amount: str = "1", metric: str = "tokens", **more: object) -> dict[str, object]:
    return {
        "billable_metric_code": metric,
        "charge_model": "standard",
        "properties": {"amount": amount},
        **more,
    }


def ranges(*tiers: tuple[int, int | None, str, str]) -> list[dict[str, object]]:
    """Tiers as (from, to, price of a unit, flat amount)."""
    return [
        {"from_value": first, "to_value": last, "per_unit_amount": unit, "flat_amount": flat}
        for first, last, unit, flat in tiers
    ]
