"""Payments: an invoice is paid when nothing is due, nobody pays more than is due, and no payment counts twice."""

import asyncio
from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

PAYMENTS = "/core/api/v1/payments"
INVOICES = "/core/api/v1/invoices"
UNKNOWN = "00000000-0000-7000-8000-000000000000"


async def an_invoice(world: World, cents: int = 10000) -> Any:
    await world.turn("2026-01-15")
    await world.post(
        "/core/api/v1/add_ons",
        {"add_on": {"code": "setup", "name": "Setup", "amount_cents": 10000, "amount_currency": "USD"}},
    )
    await world.a_customer()
    fees = [{"add_on_code": "setup", "unit_amount_cents": cents}]
    body = {"invoice": {"external_customer_id": "acme", "currency": "USD", "fees": fees}}
    return (await world.post(INVOICES, body))["invoice"]


def a_payment(invoice: Any, cents: int, **more: object) -> dict[str, object]:
    return {"payment": {"invoice_id": invoice["lago_id"], "amount_cents": cents, **more}}


async def shown(world: World, invoice: Any) -> tuple[str, int, int]:
    found = (await world.get(f"{INVOICES}/{invoice['lago_id']}"))["invoice"]
    return found["payment_status"], found["total_paid_amount_cents"], found["total_due_amount_cents"]


async def test_parts_add_up_until_the_invoice_is_paid_and_that_is_announced_once(world: World) -> None:
    invoice = await an_invoice(world)
    payment = (
        await world.post(
            PAYMENTS, a_payment(invoice, 4000, reference="wire 1", paid_at="2026-01-14T08:00:00Z")
        )
    )["payment"]
    assert (payment["invoice_ids"], payment["amount_cents"]) == ([invoice["lago_id"]], 4000)
    assert payment["invoice_numbers"] == ["INV-001"]
    assert (payment["type"], payment["payment_status"], payment["reference"]) == (
        "manual",
        "succeeded",
        "wire 1",
    )
    assert payment["created_at"] == "2026-01-14T08:00:00Z"
    assert await shown(world, invoice) == ("pending", 4000, 6000)
    await world.post(PAYMENTS, a_payment(invoice, 6000))
    assert await shown(world, invoice) == ("succeeded", 10000, 0)
    fees = (await world.get("/core/api/v1/fees"))["fees"]
    assert [one["payment_status"] for one in fees] == ["succeeded"]
    told = await world.fetch(
        "select payload from outbox where org_id = $1 and kind = 'invoice.payment_status_updated'"
    )
    assert [row["payload"] for row in told] == [{"payment_status": "succeeded"}]
    assert (await world.get(f"{PAYMENTS}/{payment['lago_id']}"))["payment"] == payment
    for query, count in (
        ({}, 2),
        ({"invoice_id": invoice["lago_id"]}, 2),
        ({"invoice_id": UNKNOWN}, 0),
        ({"external_customer_id": "acme"}, 2),
    ):
        assert (await world.get(PAYMENTS, **query))["meta"]["total_count"] == count
    mine = await world.get("/core/api/v1/customers/acme/payments")
    assert [one["amount_cents"] for one in mine["payments"]] == [6000, 4000]
    await audit(world)


@pytest.mark.parametrize(
    ("change", "status", "details"),
    [
        ({"amount_cents": 10001}, 422, {"amount_cents": ["value_is_out_of_range"]}),
        ({"amount_cents": 0}, 422, {"amount_cents": ["invalid_value"]}),
        ({"amount_cents": 1.5}, 422, {"amount_cents": ["invalid_type"]}),
        ({"paid_at": "yesterday"}, 422, {"paid_at": ["invalid_date"]}),
        ({"paid_at": "2027-01-01T00:00:00Z"}, 422, {"paid_at": ["invalid_date"]}),
        ({"reference": "x" * 161}, 422, {"reference": ["value_is_too_long"]}),
        ({"invoice_id": UNKNOWN}, 404, None),
    ],
)
async def test_a_payment_that_cannot_be_leaves_nothing(
    world: World, change: dict[str, object], status: int, details: object
) -> None:
    invoice = await an_invoice(world)
    body = a_payment(invoice, 100)
    body["payment"] |= change  # type: ignore[operator]
    answer = await world.call("POST", PAYMENTS, body)
    assert (answer.status, answer.json.get("error_details")) == (status, details), answer.body
    assert (await world.get(PAYMENTS))["payments"] == []
    assert await shown(world, invoice) == ("pending", 0, 10000)


async def test_the_day_a_payment_came_may_be_said_as_a_date(world: World) -> None:
    body = a_payment(await an_invoice(world), 4000, paid_at="2026-01-14")
    assert (await world.post(PAYMENTS, body))["payment"]["created_at"] == "2026-01-14T00:00:00Z"


async def test_two_payments_at_once_do_not_pay_one_debt_twice(world: World) -> None:
    invoice = await an_invoice(world)
    answers = await asyncio.gather(
        *(world.call("POST", PAYMENTS, a_payment(invoice, 10000)) for _ in range(4))
    )
    assert sorted(answer.status for answer in answers) == [200, 422, 422, 422]
    assert await shown(world, invoice) == ("succeeded", 10000, 0)
    await audit(world)


async def test_the_same_request_with_its_key_pays_once(world: World) -> None:
    invoice = await an_invoice(world)
    for _ in range(2):
        answer = await world.call(
            "POST", PAYMENTS, a_payment(invoice, 100), headers={"idempotency-key": "one"}
        )
        assert answer.status == 200
    assert await shown(world, invoice) == ("pending", 100, 9900)


async def test_a_merchant_says_where_the_payment_stands(world: World) -> None:
    """`succeeded` records what is due; a paid invoice stays paid."""
    invoice = await an_invoice(world)
    path = f"{INVOICES}/{invoice['lago_id']}"

    async def put(status: str) -> Any:
        return await world.call("PUT", path, {"invoice": {"payment_status": status}})

    await world.post(PAYMENTS, a_payment(invoice, 100))
    assert (await put("failed")).json["invoice"]["payment_status"] == "failed"
    assert await shown(world, invoice) == ("failed", 100, 9900)
    paid = (await put("succeeded")).json["invoice"]
    assert (paid["payment_status"], paid["total_due_amount_cents"]) == ("succeeded", 0)
    amounts = [one["amount_cents"] for one in (await world.get(PAYMENTS))["payments"]]
    assert amounts == [9900, 100]
    assert (await put("succeeded")).status == 200
    for status in ("failed", "pending", "refunded"):
        assert (await put(status)).json["error_details"] == {"payment_status": ["value_is_invalid"]}
    await audit(world)


async def test_a_voided_invoice_cannot_be_paid(world: World) -> None:
    invoice = await an_invoice(world)
    await world.post(f"{INVOICES}/{invoice['lago_id']}/void", None)
    answer = await world.call("POST", PAYMENTS, a_payment(invoice, 100))
    assert (answer.status, answer.code) == (403, "feature_unavailable")


async def test_bought_credits_are_there_when_their_invoice_is_paid_and_go_when_refunded(
    world: World,
) -> None:
    await world.turn("2026-01-15")
    await world.a_customer()
    await world.a_wallet(paid_credits="100", rate_amount="1")
    [invoice] = (await world.get(INVOICES, invoice_type="credit"))["invoices"]
    invoice = (await world.get(f"{INVOICES}/{invoice['lago_id']}"))["invoice"]

    async def balance() -> object:
        wallets = (await world.get("/core/api/v1/wallets", external_customer_id="acme"))["wallets"]
        return wallets[0]["balance_cents"]

    assert (invoice["total_amount_cents"], await balance()) == (10000, 0)
    items = [{"fee_id": invoice["fees"][0]["lago_id"], "amount_cents": 4000}]
    note: dict[str, object] = {"invoice_id": invoice["lago_id"], "items": items, "credit_amount_cents": 4000}
    answer = await world.call("POST", "/core/api/v1/credit_notes", {"credit_note": note})
    assert answer.json["error_details"] == {"credit_amount_cents": ["cannot_credit_invoice"]}
    await world.post(PAYMENTS, a_payment(invoice, 10000))
    assert await balance() == 10000
    refund = {**note, "credit_amount_cents": 0, "refund_amount_cents": 4000}
    await world.post("/core/api/v1/credit_notes", {"credit_note": refund})
    assert await balance() == 6000
    await audit(world)
