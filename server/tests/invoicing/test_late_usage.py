"""Events for periods that are invoiced already: the next invoice, or a credit note, says what they change."""

from typing import Any

import pytest

from nozle_server.workflows.close_period import close_period
from world import World, audit, instant

pytestmark = pytest.mark.database


def charge(model: str = "standard", **more: Any) -> dict[str, Any]:
    properties = more.pop("properties", {"amount": "1"})
    return {"billable_metric_code": "tokens", "charge_model": model, "properties": properties, **more}


GRADUATED = charge(
    "graduated",
    properties={
        "graduated_ranges": [
            {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
            {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "3"},
        ]
    },
)
VOLUME = charge(
    "volume",
    properties={
        "volume_ranges": [
            {"from_value": 0, "to_value": 10, "per_unit_amount": "1", "flat_amount": "0"},
            {"from_value": 11, "to_value": None, "per_unit_amount": "0.5", "flat_amount": "0"},
        ]
    },
)


async def subscriber(world: World, *charges: object, **plan: Any) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(charges=list(charges), **plan)
    await world.a_customer()
    await world.subscribe("acme", "pro")


async def corrections(world: World) -> list[tuple[str, int, str]]:
    """(description, cents, start of the period) of the lines on the latest invoice that correct an earlier period."""
    rows = await world.fetch(
        """select l.description, l.amount_cents, l.period_start from invoice_lines l
           join invoices i on i.org_id = l.org_id and i.id = l.invoice_id
           where l.org_id = $1 and l.adjusts_invoice_id is not null
             and i.sequential_id = (select max(sequential_id) from invoices where org_id = $1)
           order by l.position"""
    )
    return [
        (row["description"], int(row["amount_cents"]), row["period_start"].date().isoformat()) for row in rows
    ]


async def first_invoice(world: World) -> str:
    found = await world.get("/core/api/v1/invoices", per_page=100)
    invoice_id = found["invoices"][-1]["lago_id"]
    assert isinstance(invoice_id, str)
    return invoice_id


async def adjustments(world: World, invoice_id: str) -> list[tuple[str, int]]:
    found = await world.get(f"/core/api/v1/invoices/{invoice_id}/adjustments")
    return [(one["status"], one["net_amount_cents"]) for one in found["adjustments"]]


async def test_late_usage_is_on_the_next_invoice_in_a_line_that_names_its_period(world: World) -> None:
    await subscriber(world, charge())
    await world.use("acme", 5)
    await world.turn("2026-02-01")
    await world.at("2026-02-10").use("acme", 7, timestamp="2026-01-20T00:00:00Z")
    await world.use("acme", 2)
    invoice_id = await first_invoice(world)
    assert await adjustments(world, invoice_id) == [("pending", 700)]
    await world.turn("2026-03-01")
    assert await corrections(world) == [("tokens, correction", 700, "2026-01-01")]
    assert (await world.last_invoice("acme"))["amount"] == 900
    assert await adjustments(world, invoice_id) == [("invoiced", 700)]
    await world.turn("2026-04-01")
    assert await corrections(world) == [], "billed once"
    await audit(world)


async def test_tiers_are_walked_again_with_all_of_the_period(world: World) -> None:
    """8 units at 1.00, then 7 more: 2 of them still at 1.00, 5 at 0.50, and the tier's flat amount."""
    await subscriber(world, GRADUATED)
    await world.use("acme", 8)
    await world.turn("2026-02-01")
    await world.use("acme", 7, timestamp="2026-01-20T00:00:00Z")
    await world.turn("2026-03-01")
    assert await corrections(world) == [("tokens, correction", 200 + 250 + 300, "2026-01-01")]
    await audit(world)


async def test_a_subscription_that_has_ended_is_billed_late_usage_by_itself(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(charges=[charge()])
    await world.a_customer()
    await world.subscribe("acme", "pro", ending_at="2026-02-01T00:00:00Z")
    await world.at("2026-02-05T10:00:00Z").use("acme", 7, timestamp="2026-01-20T00:00:00Z")
    await world.turn("2026-02-05T23:59:59Z")
    assert len(await world.invoices("acme")) == 1
    await world.turn("2026-02-06")
    last = await world.last_invoice("acme")
    assert (last["amount"], last["billing_reason"]) == (700, "late_usage")
    assert await corrections(world) == [("tokens, correction", 700, "2026-01-01")]
    await audit(world)


async def test_late_usage_pays_the_taxes_of_the_day_it_is_billed(world: World) -> None:
    await world.post(
        "/core/api/v1/taxes",
        {"tax": {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}},
    )
    await subscriber(world, charge())
    await world.turn("2026-02-01")
    await world.use("acme", 5, timestamp="2026-01-20T00:00:00Z")
    await world.turn("2026-03-01")
    assert (await world.last_invoice("acme"))["amount"] == 600
    await audit(world)


async def test_a_fee_is_explained_with_its_events_and_its_steps(world: World) -> None:
    await subscriber(world, GRADUATED)
    for n, name in ((8, "a"), (7, "b")):
        await world.use("acme", n, id=name)
    await world.turn("2026-02-01")
    invoice = await world.get(f"/core/api/v1/invoices/{await first_invoice(world)}")
    (fee,) = [one for one in invoice["invoice"]["fees"] if one["item"]["type"] == "charge"]
    found = (await world.get(f"/core/api/v1/fees/{fee['lago_id']}/explanation"))["explanation"]
    assert [one["transaction_id"] for one in found["usage"]["events"]] == ["a", "b"]
    assert found["amount_cents"] == 1000 + 250 + 300
    assert sum(step["amount_cents"] for step in found["steps"]) == found["amount_cents"]
    assert found["sentences"][1:6] == [
        "2 events, summed up: 15 units.",
        "The price is graduated.",
        "0-10: 10 units at 1.00 USD each: 10.00 USD.",
        "From 11 on: 5 units at 0.50 USD each and a flat 3.00 USD: 5.50 USD.",
        "That is 15.50 USD exactly.",
    ]
    assert found["price"]["charge_model"] == "graduated"
    paged = (await world.get(f"/core/api/v1/fees/{fee['lago_id']}/explanation", per_page=1, page=2))[
        "explanation"
    ]
    assert [one["transaction_id"] for one in paged["usage"]["events"]] == ["b"]
    assert (await world.call("GET", "/core/api/v1/fees/nothing/explanation")).status == 404


@pytest.mark.parametrize(
    ("currency", "told"), [("JPY", "1500 JPY"), ("USD", "1500.00 USD"), ("KWD", "1500.000 KWD")]
)
async def test_amounts_are_told_with_the_decimals_of_their_currency(
    world: World, currency: str, told: str
) -> None:
    await subscriber(world, charge(), amount_currency=currency)
    await world.use("acme", 1500)
    await world.turn("2026-02-01")
    invoice = await world.get(f"/core/api/v1/invoices/{await first_invoice(world)}")
    fee = invoice["invoice"]["fees"][-1]
    found = (await world.get(f"/core/api/v1/fees/{fee['lago_id']}/explanation"))["explanation"]
    assert "1 event, summed up: 1500 units." in found["sentences"]
    assert f"That is {told} exactly." in found["sentences"]
    assert found["invoice"]["sentences"][-1] == f"To be paid: {told}."


async def test_what_becomes_cheaper_is_given_back_by_a_credit_note(world: World) -> None:
    """10 units of 1.00; one more and all 11 cost 0.50: 4.50 less."""
    await subscriber(world, VOLUME, amount_cents=100)
    await world.use("acme", 10)
    await world.turn("2026-02-01")
    await world.use("acme", 1, timestamp="2026-01-20T00:00:00Z")
    invoice_id = await first_invoice(world)
    assert await adjustments(world, invoice_id) == [("pending", -450)]
    await world.turn("2026-03-01")
    assert await corrections(world) == []
    notes = await world.fetch("select total_amount_cents, invoice_id from credit_notes where org_id = $1")
    assert [(int(one["total_amount_cents"]), str(one["invoice_id"])) for one in notes] == [(450, invoice_id)]
    assert await adjustments(world, invoice_id) == [("credited", -450)]
    await world.use("acme", 1, timestamp="2026-01-21T00:00:00Z")
    await world.turn("2026-04-01")
    assert await corrections(world) == [("tokens, correction", 50, "2026-01-01")]
    await audit(world)


async def test_a_minimum_that_was_charged_pays_for_late_usage_first(world: World) -> None:
    """Of a minimum of 10.00, 4.00 were used: 3.00 more change nothing, 8.00 more come to 2.00."""
    await subscriber(world, charge(min_amount_cents=1000))
    await world.use("acme", 4)
    await world.turn("2026-02-01")
    await world.use("acme", 3, timestamp="2026-01-20T00:00:00Z")
    await world.turn("2026-03-01")
    assert sum(cents for _, cents, _ in await corrections(world)) == 0
    await world.use("acme", 5, timestamp="2026-01-21T00:00:00Z")
    await world.turn("2026-04-01")
    assert sum(cents for _, cents, _ in await corrections(world)) == 200
    await audit(world)


async def test_a_commitment_that_was_charged_pays_for_late_usage_first(world: World) -> None:
    """A commitment of 10.00 with 6.00 used: 3.00 late are covered, 4.00 later ones cost 3.00."""
    await subscriber(world, charge(), minimum_commitment={"amount_cents": 1000})
    await world.use("acme", 6)
    await world.turn("2026-02-01")
    assert (await world.last_invoice("acme"))["amount"] == 1000
    await world.use("acme", 3, timestamp="2026-01-20T00:00:00Z")
    await world.use("acme", 10)
    await world.turn("2026-03-01")
    assert [cents for _, cents, _ in await corrections(world)] == [300, -300]
    await world.use("acme", 4, timestamp="2026-01-21T00:00:00Z")
    await world.use("acme", 10)
    await world.turn("2026-04-01")
    assert [cents for _, cents, _ in await corrections(world)] == [400, -100]
    await audit(world)


async def test_usage_that_comes_while_the_invoice_is_a_draft_is_on_it(world: World) -> None:
    await world.settings(invoice_grace_period=3)
    await subscriber(world, charge())
    await world.use("acme", 5)
    await world.turn("2026-02-01")
    assert (await world.last_invoice("acme"))["status"] == "draft"
    stored = await world.at("2026-02-02").use("acme", 7, timestamp="2026-01-20T00:00:00Z")
    assert stored["billing_status"] == "counted"
    await world.turn("2026-02-04")
    last = await world.last_invoice("acme")
    assert (last["status"], last["amount"], last["issuing_date"]) == ("open", 1200, "2026-02-04")
    late = await world.use("acme", 1, timestamp="2026-01-20T00:00:00Z")
    assert late["billing_status"] == "late"
    await world.turn("2026-03-04")
    assert await corrections(world) == [("tokens, correction", 100, "2026-01-01")]
    await audit(world)


async def test_usage_that_comes_after_grace_was_taken_away_is_billed_late(world: World) -> None:
    """The period closes while there is grace and is invoiced when there is none any more: nothing falls between."""
    await world.settings(invoice_grace_period=3)
    await subscriber(world, charge())
    await world.use("acme", 5)
    [row] = await world.fetch("select id from subscriptions where org_id = $1")
    seams, now = world.services.seams, instant("2026-02-01")

    async def close(tx: Any) -> None:
        await close_period(tx, seams, org_id=world.org_id, subscription_id=row["id"], now=now)

    await world.turn("2026-01-31")
    await world.database.run(close)
    await world.settings(invoice_grace_period=0)
    await world.turn("2026-02-01")
    last = await world.last_invoice("acme")
    assert (last["status"], last["amount"]) == ("open", 500)
    stored = await world.at("2026-02-02").use("acme", 7, timestamp="2026-01-20T00:00:00Z")
    assert stored["billing_status"] == "late"
    await world.turn("2026-03-01")
    assert await corrections(world) == [("tokens, correction", 700, "2026-01-01")]
    await audit(world)


async def test_a_late_event_of_a_recurring_metric_corrects_every_period_that_followed(world: World) -> None:
    """Three seats that were there since 20 January, told in April: January, February and March are each short of 3."""
    await world.turn("2026-01-01")
    await world.a_metric(code="seats", recurring=True)
    await world.a_plan(charges=[{**charge(), "billable_metric_code": "seats"}])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.use("acme", 5, code="seats")
    await world.turn("2026-04-02")
    await world.use("acme", 3, code="seats", timestamp="2026-01-20T00:00:00Z")
    await world.turn("2026-05-01")
    assert await corrections(world) == [
        ("seats, correction", 300, f"2026-{month:02}-01") for month in (1, 2, 3)
    ]
    assert (await world.last_invoice("acme"))["amount"] == 800 + 900
    await world.turn("2026-06-01")
    assert await corrections(world) == []
