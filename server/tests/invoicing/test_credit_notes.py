"""Credit notes through Core's API: what may be taken back, what becomes of it, and what the invoice looks like after."""

from typing import Any

import pytest

from world import World, audit

from .test_core_invoices import UNKNOWN, a_one_off, a_story, a_tax

pytestmark = pytest.mark.database

NOTES = "/core/api/v1/credit_notes"
INVOICES = "/core/api/v1/invoices"


def a_note(invoice: Any, *amounts: int, **more: object) -> dict[str, object]:
    """A credit note over the invoice's fees in order."""
    items = [
        {"fee_id": fee["lago_id"], "amount_cents": amount}
        for fee, amount in zip(invoice["fees"], amounts, strict=False)
    ]
    return {"credit_note": {"invoice_id": invoice["lago_id"], "items": items, **more}}


async def issued(world: World, body: dict[str, object]) -> Any:
    return (await world.post(NOTES, body))["credit_note"]


async def refused(world: World, body: dict[str, object]) -> Any:
    answer = await world.call("POST", NOTES, body)
    assert answer.status == 422, answer.body
    return answer.json["error_details"]


async def pay(world: World, invoice: Any, cents: int) -> None:
    body = {"payment": {"invoice_id": invoice["lago_id"], "amount_cents": cents}}
    await world.post("/core/api/v1/payments", body)


async def test_credit_takes_fees_back_with_their_taxes_and_pays_later_invoices(world: World) -> None:
    """Oldest first, after taxes; a note is consumed when nothing is left of it."""
    await a_story(world)
    await a_tax(world, applied_to_organization=True)
    invoice = await a_one_off(world, {"add_on_code": "setup"}, {"add_on_code": "setup"})
    note = await issued(
        world, a_note(invoice, 1000, 500, credit_amount_cents=1800, reason="duplicated_charge")
    )
    assert (note["number"], note["invoice_number"], note["reason"]) == (
        "INV-001-CN001",
        "INV-001",
        "duplicated_charge",
    )
    assert (note["sub_total_excluding_taxes_amount_cents"], note["taxes_amount_cents"]) == (1500, 300)
    assert (note["total_amount_cents"], note["balance_amount_cents"]) == (1800, 1800)
    assert (note["credit_status"], note["refund_status"]) == ("available", None)
    assert note["applied_taxes"][0]["base_amount_cents"] == 1500
    assert [item["fee"]["lago_id"] for item in note["items"]] == [fee["lago_id"] for fee in invoice["fees"]]
    second = await issued(world, a_note(invoice, 0, 1000, credit_amount_cents=1200))
    assert second["number"] == "INV-001-CN002"
    later = await a_one_off(world, {"add_on_code": "setup", "unit_amount_cents": 2000})
    assert (later["credit_notes_amount_cents"], later["total_amount_cents"]) == (2400, 0)
    assert later["payment_status"] == "succeeded"
    assert [(one["item"]["type"], one["amount_cents"]) for one in later["credits"]] == [
        ("credit_note", 1800),
        ("credit_note", 600),
    ]
    shown = [
        (one["credit_status"], one["balance_amount_cents"])
        for one in (await world.get(NOTES))["credit_notes"]
    ]
    assert shown == [("available", 600), ("consumed", 0)]
    await audit(world)


async def test_refunds_are_of_what_was_paid_and_offsets_of_what_is_open(world: World) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    unpaid = await refused(world, a_note(invoice, 1000, refund_amount_cents=1000))
    assert unpaid == {"refund_amount_cents": ["cannot_refund_unpaid_invoice"]}
    await pay(world, invoice, 4000)
    too_much = await refused(world, a_note(invoice, 4001, refund_amount_cents=4001))
    assert too_much == {"refund_amount_cents": ["higher_than_remaining_invoice_amount"]}
    too_much = await refused(world, a_note(invoice, 6001, offset_amount_cents=6001))
    assert too_much == {"offset_amount_cents": ["higher_than_remaining_invoice_amount"]}
    note = await issued(
        world, a_note(invoice, 9000, refund_amount_cents=3000, offset_amount_cents=6000, reason="other")
    )
    assert (note["credit_status"], note["refund_status"]) == (None, "pending")
    shown = (await world.get(f"{INVOICES}/{invoice['lago_id']}"))["invoice"]
    assert (shown["total_due_amount_cents"], shown["total_paid_amount_cents"]) == (0, 4000)
    assert (shown["total_offsetted_credit_note_amount_cents"], shown["payment_status"]) == (6000, "succeeded")
    path = f"{NOTES}/{note['lago_id']}"
    done = await world.call("PUT", path, {"credit_note": {"refund_status": "succeeded"}})
    assert done.json["credit_note"]["refund_status"] == "succeeded"
    assert done.json["credit_note"]["refunded_at"] == "2026-01-15T00:00:00Z"
    answer = await world.call("PUT", path, {"credit_note": {"refund_status": "done"}})
    assert answer.json["error_details"] == {"refund_status": ["value_is_invalid"]}
    await audit(world)


async def test_an_estimate_tells_what_the_note_will_be(world: World) -> None:
    """To the cent, also for the note that takes back the rest."""
    await a_story(world)
    await a_tax(world, rate="7.75", applied_to_organization=True)
    invoice = await a_one_off(world, {"add_on_code": "setup", "unit_amount_cents": 100})
    await pay(world, invoice, 20)
    totals = []
    for cents in (33, 33, 34):
        body = a_note(invoice, cents)
        estimate = (await world.post(f"{NOTES}/estimate", body))["estimated_credit_note"]
        assert estimate["max_refundable_amount_cents"] == 20
        note = await issued(
            world, a_note(invoice, cents, credit_amount_cents=estimate["max_creditable_amount_cents"])
        )
        assert note["taxes_amount_cents"] == estimate["taxes_amount_cents"]
        totals.append(note["total_amount_cents"])
    assert totals == [36, 36, 36]
    assert sum(totals) == invoice["sub_total_including_taxes_amount_cents"]
    assert (await world.call("POST", f"{NOTES}/estimate", a_note(invoice, 1))).json["error_details"] == {
        "amount_cents": ["higher_than_remaining_fee_amount"]
    }
    await audit(world)


@pytest.mark.parametrize(
    ("amount", "parts", "details"),
    [
        (10001, {"credit_amount_cents": 10001}, {"amount_cents": ["higher_than_remaining_fee_amount"]}),
        (-1, {"credit_amount_cents": 1}, {"amount_cents": ["invalid_value"]}),
        (1000, {"credit_amount_cents": 998}, {"base": ["does_not_match_item_amounts"]}),
        (0, {"credit_amount_cents": 0}, {"base": ["total_amount_must_be_positive"]}),
        (
            100,
            {"credit_amount_cents": 200, "offset_amount_cents": -100},
            {"offset_amount_cents": ["value_is_out_of_range"]},
        ),
        (100, {"credit_amount_cents": 100, "reason": "bored"}, {"reason": ["value_is_invalid"]}),
        (100, {"credit_amount_cents": 100, "metadata": {"k": 1}}, {"metadata": ["value_is_invalid"]}),
    ],
)
async def test_what_does_not_fit_is_refused_and_changes_nothing(
    world: World, amount: int, parts: dict[str, object], details: dict[str, object]
) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    assert await refused(world, a_note(invoice, amount, **parts)) == details
    assert (await world.get(NOTES))["credit_notes"] == []


async def test_a_cent_of_rounding_is_taken_by_the_credit(world: World) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    note = await issued(world, a_note(invoice, 1000, credit_amount_cents=999))
    assert note["credit_amount_cents"] == 1000


async def test_unknown_invoices_fees_and_notes_are_told(world: World, other_world: World) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    for change, code in (
        ({"invoice_id": UNKNOWN}, "invoice_not_found"),
        ({"items": [{"fee_id": UNKNOWN, "amount_cents": 1}]}, "fee_not_found"),
    ):
        body = a_note(invoice, 100, credit_amount_cents=100)
        body["credit_note"] |= change  # type: ignore[operator]
        assert (await world.call("POST", NOTES, body)).code == code
    note = await issued(world, a_note(invoice, 100, credit_amount_cents=100))
    path = f"{NOTES}/{note['lago_id']}"
    changes = {"credit_note": {"refund_status": "failed"}}
    for method, suffix, sent in (("GET", "", None), ("PUT", "", changes), ("PUT", "/void", None)):
        answer = await other_world.call(method, path + suffix, sent)
        assert (answer.status, answer.code) == (404, "credit_note_not_found")
    answer = await world.call("PUT", path, changes)
    assert answer.json["error_details"] == {"refund_status": ["value_is_invalid"]}


async def test_a_voided_note_pays_nothing_and_is_voided_once(world: World) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    note = await issued(world, a_note(invoice, 500, credit_amount_cents=500))
    path = f"{NOTES}/{note['lago_id']}"
    voided = (await world.call("PUT", f"{path}/void")).json["credit_note"]
    assert (voided["credit_status"], voided["balance_amount_cents"]) == ("voided", 0)
    again = await world.call("PUT", f"{path}/void")
    assert (again.status, again.code) == (405, "no_voidable_amount")
    assert (await a_one_off(world))["credit_notes_amount_cents"] == 0
    await audit(world)


async def test_lists_find_notes_by_each_filter(world: World) -> None:
    await a_story(world)
    await world.a_customer("other")
    first = await a_one_off(world)
    second = await a_one_off(world, customer="other")
    await pay(world, second, 100)
    await issued(world, a_note(first, 500, credit_amount_cents=500, reason="order_change"))
    await issued(world, a_note(second, 100, refund_amount_cents=100))
    for query, numbers in (
        ({}, ["INV-002-CN001", "INV-001-CN001"]),
        ({"external_customer_id": "acme"}, ["INV-001-CN001"]),
        ({"reason": "order_change"}, ["INV-001-CN001"]),
        ({"credit_status": "available"}, ["INV-001-CN001"]),
        ({"refund_status": "pending"}, ["INV-002-CN001"]),
        ({"invoice_number": "INV-002"}, ["INV-002-CN001"]),
        ({"amount_from": 500}, ["INV-001-CN001"]),
        ({"amount_to": 499}, ["INV-002-CN001"]),
        ({"issuing_date_from": "2026-01-16"}, []),
        ({"search_term": "001-cn"}, ["INV-001-CN001"]),
        ({"currency": "EUR"}, []),
    ):
        found = (await world.get(NOTES, **query))["credit_notes"]
        assert [one["number"] for one in found] == numbers, query
    mine = (await world.get("/core/api/v1/customers/other/credit_notes"))["credit_notes"]
    assert [one["number"] for one in mine] == ["INV-002-CN001"]
    path = f"{NOTES}/{mine[0]['lago_id']}"
    assert (await world.get(path))["credit_note"] == mine[0] | {
        "file_url": (await world.get(path))["credit_note"]["file_url"]
    }


async def test_the_same_request_with_its_key_credits_once(world: World) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    body = a_note(invoice, 500, credit_amount_cents=500)
    answers = [await world.call("POST", NOTES, body, headers={"idempotency-key": "one"}) for _ in range(2)]
    assert answers[0].json == answers[1].json
    assert len((await world.get(NOTES))["credit_notes"]) == 1


async def test_the_database_refuses_a_note_over_the_invoice_and_a_rewritten_one(world: World) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    note = await issued(world, a_note(invoice, 6000, credit_amount_cents=6000))
    for sql in (
        """insert into credit_notes select (jsonb_populate_record(n, jsonb_build_object(
            'id', gen_random_uuid(), 'sequential_id', 2))).* from credit_notes n where org_id = $1""",
        "update credit_notes set credit_amount_cents = 0 where org_id = $1",
        "delete from credit_notes where org_id = $1",
        "delete from credit_note_items where org_id = $1",
    ):
        with pytest.raises(Exception, match=r"take back more|never rewritten|permission denied"):
            await world.fetch(sql)
    assert (await world.get(f"{NOTES}/{note['lago_id']}"))["credit_note"]["credit_amount_cents"] == 6000


@pytest.mark.parametrize(
    ("how", "paid", "parts"),
    [
        (None, 0, (1600, 0, 0)),
        ("credit", 3100, (1600, 0, 0)),
        ("refund", 3100, (0, 1600, 0)),
        ("refund", 2000, (1100, 500, 0)),
        ("offset", 0, (0, 0, 1600)),
        ("offset", 2000, (500, 0, 1100)),
        ("skip", 3100, None),
    ],
)
async def test_ending_early_gives_back_the_days_that_are_not_used(
    world: World, how: str | None, paid: int, parts: tuple[int, int, int] | None
) -> None:
    """31.00 for January, ended in the 15th: that day is used, 16 days are not."""
    await world.turn("2026-01-01")
    await world.a_plan(amount_cents=3100, pay_in_advance=True)
    await world.a_customer()
    body = {"external_customer_id": "acme", "plan_code": "pro", "external_id": "s"}
    await world.post("/core/api/v1/subscriptions", {"subscription": body})
    invoice = (await world.get(INVOICES))["invoices"][0]
    if paid:
        await pay(world, invoice, paid)
    await world.turn("2026-01-15T10:00:00Z")
    query = f"?on_termination_credit_note={how}" if how else ""
    ended = await world.call("DELETE", f"/core/api/v1/subscriptions/s{query}")
    assert ended.status == 200, ended.body
    notes = (await world.get(NOTES))["credit_notes"]
    found = [
        (one["credit_amount_cents"], one["refund_amount_cents"], one["offset_amount_cents"]) for one in notes
    ]
    assert found == ([] if parts is None else [parts])
    assert {one["reason"] for one in notes} <= {"order_cancellation"}
    await audit(world)


async def test_metadata_is_replaced_merged_and_taken_away(world: World) -> None:
    await a_story(world)
    invoice = await a_one_off(world)
    note = await issued(world, a_note(invoice, 100, credit_amount_cents=100, metadata={"a": "1"}))
    assert note["metadata"] == {"a": "1"}
    path = f"{NOTES}/{note['lago_id']}/metadata"
    for method, suffix, sent, expected in (
        ("PATCH", "", {"b": "2"}, {"a": "1", "b": "2"}),
        ("POST", "", {"c": None}, {"c": None}),
        ("DELETE", "/c", None, None),
        ("POST", "", {"d": "4"}, {"d": "4"}),
        ("DELETE", "", None, None),
    ):
        answer = await world.call(method, path + suffix, None if sent is None else {"metadata": sent})
        assert answer.json == {"metadata": expected}, (method, suffix)
    assert (await world.call("DELETE", f"{path}/none")).code == "metadata_not_found"
    answer = await world.call("POST", path, {"metadata": {"x" * 41: "1"}})
    assert answer.json["error_details"] == {"metadata": ["value_is_invalid"]}
