"""Core's invoice resource: one-off invoices, lists, notes, drafts by hand, voiding, disputes, fees."""

import uuid
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.invoicing import store
from nozle_server.invoicing.model import InvoiceLine, LineKind
from world import World, audit

pytestmark = pytest.mark.database

PATH = "/core/api/v1/invoices"
UNKNOWN = "00000000-0000-7000-8000-000000000000"


async def an_add_on(world: World, code: str = "setup", cents: int = 10000, **more: object) -> str:
    body = {"code": code, "name": code.title(), "amount_cents": cents, "amount_currency": "USD", **more}
    await world.post("/core/api/v1/add_ons", {"add_on": body})
    return code


async def a_tax(world: World, code: str = "vat", rate: str = "20", **more: object) -> str:
    await world.post("/core/api/v1/taxes", {"tax": {"code": code, "name": code, "rate": rate, **more}})
    return code


async def a_one_off(world: World, *fees: dict[str, object], customer: str = "acme", **more: object) -> Any:
    """A one-off invoice of add-ons, by default one `setup`."""
    wanted = list(fees) or [{"add_on_code": "setup"}]
    body = {"invoice": {"external_customer_id": customer, "currency": "USD", "fees": wanted, **more}}
    return (await world.post(PATH, body))["invoice"]


async def a_story(world: World, now: str = "2026-01-15") -> None:
    await world.turn(now)
    await an_add_on(world)
    await world.a_customer()


async def test_a_one_off_invoice_is_final_at_once_with_its_fees_taxed(world: World) -> None:
    """Prices of the add-on or of the fee, units, taxes of the fee before those of the organization, no coupons."""
    await a_story(world)
    await a_tax(world, applied_to_organization=True)
    await a_tax(world, "city", "5")
    await world.post(
        "/core/api/v1/coupons",
        {
            "coupon": {
                "code": "half",
                "name": "Half",
                "coupon_type": "percentage",
                "percentage_rate": "50",
                "frequency": "forever",
                "expiration": "no_expiration",
            }
        },
    )
    await world.post(
        "/core/api/v1/applied_coupons",
        {"applied_coupon": {"external_customer_id": "acme", "coupon_code": "half"}},
    )
    invoice = await a_one_off(
        world,
        {"add_on_code": "setup"},
        {
            "add_on_code": "setup",
            "unit_amount_cents": 333,
            "units": "2.5",
            "invoice_display_name": "Hours",
            "description": "Two and a half",
            "tax_codes": ["city"],
            "from_datetime": "2026-01-01T00:00:00Z",
            "to_datetime": "2026-01-31T23:59:59Z",
        },
        net_payment_term=30,
    )
    assert (invoice["invoice_type"], invoice["status"], invoice["number"]) == (
        "one_off",
        "finalized",
        "INV-001",
    )
    assert (invoice["issuing_date"], invoice["payment_due_date"]) == ("2026-01-15", "2026-02-14")
    assert (invoice["fees_amount_cents"], invoice["coupons_amount_cents"]) == (10833, 0)
    assert (invoice["taxes_amount_cents"], invoice["total_amount_cents"]) == (2042, 12875)
    assert invoice["total_due_amount_cents"] == 12875
    assert invoice["customer"]["external_id"] == "acme"
    hours = invoice["fees"][1]
    assert hours["item"] == {
        "type": "add_on",
        "code": "setup",
        "name": "Setup",
        "description": None,
        "lago_item_id": invoice["fees"][0]["item"]["lago_item_id"],
        "invoice_display_name": "Hours",
        "filters": None,
        "filter_invoice_display_name": None,
        "item_type": "AddOn",
        "grouped_by": {},
    }
    assert (hours["units"], hours["precise_unit_amount"], hours["precise_amount"]) == ("2.5", "3.33", "8.325")
    assert (hours["amount_cents"], hours["taxes_amount_cents"], hours["total_amount_cents"]) == (833, 42, 875)
    assert hours["description"] == "Two and a half"
    assert (hours["from_date"], hours["to_date"]) == ("2026-01-01T00:00:00Z", "2026-01-31T23:59:59Z")
    assert hours["applied_taxes"][0]["tax_code"] == "city"
    again = (await world.get(f"{PATH}/{invoice['lago_id']}"))["invoice"]
    # The link to the PDF is signed anew each time.
    assert {**again, "file_url": None} == {**invoice, "file_url": None}
    await audit(world)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"external_customer_id": "nobody"}, 404, "customer_not_found"),
        ({"fees": []}, 404, "fees_not_found"),
        ({"fees": [{"add_on_code": "none"}]}, 404, "add_on_not_found"),
        ({"fees": [{"add_on_code": "setup", "tax_codes": ["none"]}]}, 404, "tax_not_found"),
        ({"currency": "EURO"}, 422, "validation_errors"),
        ({"fees": [{"add_on_code": "setup", "units": -1}]}, 422, "validation_errors"),
        ({"fees": [{"add_on_code": "setup", "unit_amount_cents": -1}]}, 422, "validation_errors"),
        (
            {"fees": [{"add_on_code": "setup", "from_datetime": "2026-01-01T00:00:00Z"}]},
            422,
            "validation_errors",
        ),
        ({"net_payment_term": -1}, 422, "validation_errors"),
        ({"fees": [{"units": 1}]}, 422, "validation_errors"),
    ],
)
async def test_a_one_off_that_cannot_be_made_leaves_nothing(
    world: World, change: dict[str, object], status: int, code: str
) -> None:
    await a_story(world)
    body = {"external_customer_id": "acme", "currency": "USD", "fees": [{"add_on_code": "setup"}], **change}
    answer = await world.call("POST", PATH, {"invoice": body})
    assert (answer.status, answer.code) == (status, code), answer.body
    assert (await world.get(PATH))["invoices"] == []


async def test_a_customer_pays_in_one_currency(world: World) -> None:
    await a_story(world)
    await a_one_off(world)
    body = {"external_customer_id": "acme", "currency": "EUR", "fees": [{"add_on_code": "setup"}]}
    answer = await world.call("POST", PATH, {"invoice": body})
    assert answer.json["error_details"] == {"currency": ["currencies_does_not_match"]}


async def test_amounts_of_any_currency_are_exact_to_the_twelfth_decimal(world: World) -> None:
    """JPY has no cents, KWD a thousand: minor units all the same; a price of 0.000000000001 is kept."""
    await a_story(world)
    for currency in ("JPY", "KWD"):
        customer = await world.a_customer(currency)
        fee = {"add_on_code": "setup", "unit_amount_cents": "0.000000000001", "units": 10**12}
        invoice = await a_one_off(world, fee, customer=customer, currency=currency)
        assert invoice["total_amount_cents"] == 1
        unit = invoice["fees"][0]["precise_unit_amount"]
        assert unit == {"JPY": "0.000000000001", "KWD": "0.000000000000001"}[currency]


async def test_the_list_finds_invoices_by_each_filter(world: World, other_world: World) -> None:
    await a_story(world)
    await world.a_customer("other", name="Other Ltd")
    first = await a_one_off(world)
    second = await a_one_off(
        world, {"add_on_code": "setup", "unit_amount_cents": 500}, customer="other", net_payment_term=10
    )
    await world.turn("2026-01-20")
    third = await a_one_off(world, {"add_on_code": "setup", "unit_amount_cents": 0})
    for query, expected in (
        ({}, [third, second, first]),
        ({"external_customer_id": "acme"}, [third, first]),
        ({"status": "finalized", "per_page": 1}, [third]),
        ({"statuses[]": ["draft", "voided"]}, []),
        ({"payment_status": "succeeded"}, [third]),
        ({"payment_statuses[]": ["pending"]}, [second, first]),
        ({"payment_overdue": "true"}, [first]),
        ({"payment_overdue": "false"}, [third, second]),
        ({"payment_dispute_lost": "true"}, []),
        ({"currency": "EUR"}, []),
        ({"issuing_date_from": "2026-01-16"}, [third]),
        ({"issuing_date_to": "2026-01-15"}, [second, first]),
        ({"amount_from": 500, "amount_to": 500}, [second]),
        ({"invoice_type": "subscription"}, []),
        ({"invoice_types[]": ["one_off", "credit"]}, [third, second, first]),
        ({"search_term": "inv-002"}, [second]),
        ({"search_term": "other l"}, [second]),
        ({"external_subscription_id": "none"}, []),
    ):
        found = (await world.get(PATH, **query))["invoices"]
        assert [one["number"] for one in found] == [one["number"] for one in expected], query
    assert "fees" not in found
    mine = (await world.get("/core/api/v1/customers/other/invoices"))["invoices"]
    assert [one["number"] for one in mine] == ["INV-002"]
    assert (await other_world.get(PATH))["invoices"] == []
    assert (await other_world.call("GET", f"{PATH}/{first['lago_id']}")).code == "invoice_not_found"
    for query in ("status=none", "amount_from=x", "issuing_date_from=2026-13-01", "payment_overdue=maybe"):
        assert (await world.call("GET", f"{PATH}?{query}")).status == 422


async def test_an_invoice_is_overdue_from_the_day_after_it_was_due_in_the_customers_zone(
    world: World,
) -> None:
    await world.turn("2026-01-15T12:00:00Z")
    await an_add_on(world)
    await world.a_customer(timezone="Pacific/Auckland")
    invoice = await a_one_off(world, net_payment_term=1)
    assert invoice["payment_due_date"] == "2026-01-17"
    for now, overdue in (("2026-01-17T10:59:59Z", False), ("2026-01-17T11:00:00Z", True)):
        await world.turn(now)
        shown = (await world.get(f"{PATH}/{invoice['lago_id']}"))["invoice"]
        listed = (await world.get(PATH, payment_overdue="true"))["invoices"]
        assert (shown["payment_overdue"], len(listed)) == (overdue, int(overdue))


async def test_metadata_is_replaced_entry_by_entry(world: World) -> None:
    await a_story(world)
    path = f"{PATH}/{(await a_one_off(world))['lago_id']}"

    async def put(*entries: dict[str, object]) -> Any:
        return await world.call("PUT", path, {"invoice": {"metadata": list(entries)}})

    made = (await put({"key": "po", "value": "1"}, {"key": "who", "value": "me"})).json["invoice"]["metadata"]
    assert [(one["key"], one["value"]) for one in made] == [("po", "1"), ("who", "me")]
    kept = (await put({"id": made[1]["lago_id"], "key": "who", "value": "you"})).json["invoice"]["metadata"]
    assert [(one["lago_id"], one["value"]) for one in kept] == [(made[1]["lago_id"], "you")]
    for entries in (
        [{"key": f"k{n}", "value": ""} for n in range(6)],
        [{"key": "x" * 21, "value": ""}],
        [{"key": "a", "value": "b"}, {"key": "a", "value": "c"}],
        [{"key": "a", "value": "\u0007"}],
    ):
        assert (await put(*entries)).status == 422
    assert (await put({"id": UNKNOWN, "key": "a", "value": "b"})).code == "metadata_not_found"
    assert (await world.get(path))["invoice"]["metadata"] == kept


async def test_voiding_gives_back_coupons_credit_and_wallets_and_frees_the_debt(world: World) -> None:
    await a_story(world)
    await world.a_plan(amount_cents=4900, pay_in_advance=True)
    await world.post(
        "/core/api/v1/coupons",
        {
            "coupon": {
                "code": "ten",
                "name": "Ten",
                "coupon_type": "fixed_amount",
                "amount_cents": 1000,
                "amount_currency": "USD",
                "frequency": "once",
                "expiration": "no_expiration",
            }
        },
    )
    await world.post(
        "/core/api/v1/applied_coupons",
        {"applied_coupon": {"external_customer_id": "acme", "coupon_code": "ten"}},
    )
    earlier = await a_one_off(world, {"add_on_code": "setup", "unit_amount_cents": 900})
    note = {
        "invoice_id": earlier["lago_id"],
        "credit_amount_cents": 900,
        "items": [{"fee_id": earlier["fees"][0]["lago_id"], "amount_cents": 900}],
    }
    note = (await world.post("/core/api/v1/credit_notes", {"credit_note": note}))["credit_note"]
    await world.a_wallet(granted_credits="5", rate_amount="1")
    await world.subscribe("acme", "pro")
    invoice = (await world.get(PATH, invoice_type="subscription"))["invoices"][0]
    assert (invoice["coupons_amount_cents"], invoice["credit_notes_amount_cents"]) == (1000, 900)
    assert (invoice["prepaid_credit_amount_cents"], invoice["total_amount_cents"]) == (500, 2500)
    note_path = f"/core/api/v1/credit_notes/{note['lago_id']}"
    assert (await world.get(note_path))["credit_note"]["credit_status"] == "consumed"

    voided = (await world.post(f"{PATH}/{invoice['lago_id']}/void", None))["invoice"]
    assert (voided["status"], voided["voided_at"]) == ("voided", "2026-01-15T00:00:00Z")
    back = (await world.get(note_path))["credit_note"]
    assert (back["credit_status"], back["balance_amount_cents"]) == ("available", 900)
    applied = (await world.get("/core/api/v1/applied_coupons"))["applied_coupons"][0]
    assert (applied["status"], applied["amount_cents_remaining"]) == ("active", 1000)
    wallet = (await world.get("/core/api/v1/wallets", external_customer_id="acme"))["wallets"][0]
    assert wallet["balance_cents"] == 500
    again = await world.call("POST", f"{PATH}/{invoice['lago_id']}/void")
    assert (again.status, again.code) == (405, "not_voidable")
    await audit(world)


async def test_what_was_paid_is_voided_only_with_a_credit_note(world: World) -> None:
    """The customer gets what is asked for; the rest is taken back by a note that nobody can use: the books close."""
    await a_story(world)
    await a_tax(world, applied_to_organization=True)
    invoice = await a_one_off(world)
    path = f"{PATH}/{invoice['lago_id']}"
    payment = {"invoice_id": invoice["lago_id"], "amount_cents": 7000}
    await world.post("/core/api/v1/payments", {"payment": payment})
    assert (await world.call("POST", f"{path}/void")).code == "not_voidable"
    wanted = {"generate_credit_note": True, "credit_amount": 1000, "refund_amount": 8000}
    answer = await world.call("POST", f"{path}/void", wanted)
    assert answer.json["error_details"] == {"credit_refund_amount": ["total_amount_exceeds_invoice_amount"]}
    await world.post(f"{path}/void", {**wanted, "refund_amount": 7000})
    notes = (await world.get("/core/api/v1/credit_notes"))["credit_notes"]
    assert [
        (one["number"], one["credit_amount_cents"], one["refund_amount_cents"], one["credit_status"])
        for one in notes
    ] == [("INV-001-CN002", 4000, 0, "voided"), ("INV-001-CN001", 1000, 7000, "available")]
    assert sum(one["taxes_amount_cents"] for one in notes) == invoice["taxes_amount_cents"]
    await audit(world)


async def test_a_lost_dispute_is_not_overdue_and_cannot_be_voided(world: World) -> None:
    await a_story(world)
    path = f"{PATH}/{(await a_one_off(world))['lago_id']}"
    lost = (await world.post(f"{path}/lose_dispute", None))["invoice"]
    assert lost["payment_dispute_lost_at"] == "2026-01-15T00:00:00Z"
    await world.turn("2026-03-01")
    again = (await world.post(f"{path}/lose_dispute", None))["invoice"]
    assert (again["payment_dispute_lost_at"], again["payment_overdue"]) == ("2026-01-15T00:00:00Z", False)
    assert (await world.call("POST", f"{path}/void")).code == "not_voidable"
    assert len((await world.get(PATH, payment_dispute_lost="true"))["invoices"]) == 1


async def test_a_draft_is_refreshed_and_finalized_by_hand(world: World) -> None:
    """Usage that came in the grace counts; the draft becomes the invoice under its own id, with the next number."""
    await world.turn("2026-01-01")
    await world.settings(invoice_grace_period=5)
    await world.a_metric()
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}
    await world.a_plan(charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.turn("2026-02-02")
    draft = (await world.get(PATH, status="draft"))["invoices"][0]
    path = f"{PATH}/{draft['lago_id']}"
    await world.use("acme", 3, timestamp="2026-01-20T00:00:00Z")
    refreshed = await world.call("PUT", f"{path}/refresh")
    assert refreshed.json["invoice"]["total_amount_cents"] == 300
    assert (await world.call("POST", f"{path}/void")).code == "not_voidable"
    assert (await world.call("POST", f"{path}/lose_dispute")).code == "not_disputable"
    final = (await world.call("PUT", f"{path}/finalize")).json["invoice"]
    assert (final["lago_id"], final["status"], final["number"]) == (draft["lago_id"], "finalized", "INV-001")
    assert final["total_amount_cents"] == 300
    assert final["subscriptions"][0]["plan_code"] == "pro"
    period = final["billing_periods"][0]
    assert (period["charges_from_datetime"], period["charges_to_datetime"]) == (
        "2026-01-01T00:00:00Z",
        "2026-01-31T23:59:59Z",
    )
    assert (await world.call("PUT", f"{path}/finalize")).code == "invoice_not_found"
    assert (await world.call("PUT", f"{path}/refresh")).json["invoice"]["status"] == "finalized"
    assert (await world.call("POST", f"{path}/retry")).code == "invalid_status"
    await world.turn("2026-02-20")
    assert len((await world.get(PATH))["invoices"]) == 1
    await audit(world)


async def test_nobody_can_be_asked_to_pay_while_no_provider_is_linked(world: World) -> None:
    await a_story(world)
    path = f"{PATH}/{(await a_one_off(world))['lago_id']}"
    for action in ("retry_payment", "payment_url"):
        answer = await world.call("POST", f"{path}/{action}")
        assert answer.json["error_details"] == {"base": ["no_linked_payment_provider"]}


async def test_unknown_invoices_are_told(world: World) -> None:
    for method, action in (
        ("GET", ""),
        ("PUT", "/finalize"),
        ("PUT", "/refresh"),
        ("POST", "/retry"),
        ("POST", "/void"),
        ("POST", "/lose_dispute"),
        ("POST", "/payment_url"),
    ):
        answer = await world.call(method, f"{PATH}/{UNKNOWN}{action}")
        assert (answer.status, answer.code) == (404, "invoice_not_found")
    for body in ({"payment_status": "succeeded"}, {"metadata": []}, {}):
        answer = await world.call("PUT", f"{PATH}/{UNKNOWN}", {"invoice": body})
        assert (answer.status, answer.code) == (404, "invoice_not_found")


async def test_fees_are_found_by_what_they_are_about(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await an_add_on(world)
    charge = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "0.5"}}
    await world.a_plan(amount_cents=1000, charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.use("acme", 3)
    await world.turn("2026-02-01")
    await a_one_off(world)
    fees = "/core/api/v1/fees"
    found = (await world.get(fees))["fees"]
    assert sorted(one["item"]["type"] for one in found) == ["add_on", "charge", "subscription"]
    [usage] = (await world.get(fees, billable_metric_code="tokens"))["fees"]
    assert (usage["item"]["code"], usage["item"]["item_type"], usage["units"]) == (
        "tokens",
        "BillableMetric",
        "3.0",
    )
    assert (usage["precise_unit_amount"], usage["precise_amount"], usage["events_count"]) == ("0.5", "1.5", 1)
    [plan] = (await world.get(fees, fee_type="subscription"))["fees"]
    assert (plan["item"]["code"], plan["item"]["name"]) == ("pro", "Pro")
    for query, count in (
        ({"external_customer_id": "acme"}, 3),
        ({"external_customer_id": "other"}, 0),
        ({"external_subscription_id": usage["external_subscription_id"]}, 2),
        ({"currency": "EUR"}, 0),
        ({"payment_status": "pending"}, 3),
        ({"created_at_from": "2026-02-01T00:00:00Z"}, 3),
        ({"created_at_to": "2026-01-31T00:00:00Z"}, 0),
        ({"succeeded_at_from": "2026-01-01T00:00:00Z"}, 0),
        ({"event_transaction_id": "none"}, 0),
    ):
        assert (await world.get(fees, **query))["meta"]["total_count"] == count, query
    assert (await world.get(f"{fees}/{usage['lago_id']}"))["fee"] == usage
    change = {"fee": {"payment_status": "succeeded"}}
    answer = await world.call("PUT", f"{fees}/{usage['lago_id']}", change)
    assert (answer.status, answer.code) == (405, "invoiceable_fee")
    answer = await world.call("DELETE", f"{fees}/{usage['lago_id']}")
    assert (answer.status, answer.code) == (405, "invoiced_fee")
    for method, body in (("GET", None), ("PUT", change), ("DELETE", None)):
        assert (await world.call(method, f"{fees}/{UNKNOWN}", body)).code == "fee_not_found"
    paid = {"invoice": {"payment_status": "succeeded"}}
    await world.call("PUT", f"{PATH}/{usage['lago_invoice_id']}", paid)
    assert (await world.get(f"{fees}/{usage['lago_id']}"))["fee"]["succeeded_at"] == "2026-02-01T00:00:00Z"


async def test_a_fee_that_is_never_invoiced_is_paid_and_deleted_by_itself(world: World) -> None:
    """The merchant collects it; its event is told when it is taken away."""
    await world.turn("2026-01-01")
    await world.a_metric()
    charge = {
        "billable_metric_code": "tokens",
        "charge_model": "standard",
        "properties": {"amount": "1"},
        "pay_in_advance": True,
        "invoiceable": False,
    }
    await world.a_plan(charges=[charge])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    [row] = await world.fetch(
        """select s.*, v.charges -> 0 ->> 'id' as charge_id from subscriptions s join plan_versions v
           on v.org_id = s.org_id and v.id = s.plan_version_id where s.org_id = $1"""
    )
    line = InvoiceLine(
        org_id=world.org_id,
        id=uuid.uuid4(),
        kind=LineKind.CHARGE,
        customer_id=row["customer_id"],
        currency="USD",
        description="tokens",
        units=Decimal(5),
        exact_amount_cents=Decimal(500),
        amount_cents=500,
        created_at=row["created_at"],
        subscription_id=row["id"],
        plan_id=row["plan_id"],
        plan_version_id=row["plan_version_id"],
        charge_id=uuid.UUID(row["charge_id"]),
        metric_code="tokens",
        pay_in_advance=True,
        event_transaction_id="e1",
    )
    async with world.database.transaction() as tx:
        await store.insert_lines(tx, [line])
    path = f"/core/api/v1/fees/{line.id}"
    fee = (await world.get(path))["fee"]
    assert (fee["pay_in_advance"], fee["invoiceable"], fee["lago_invoice_id"]) == (True, False, None)
    for status in ("failed", "succeeded", "refunded"):
        paid = (await world.call("PUT", path, {"fee": {"payment_status": status}})).json["fee"]
        assert (paid["payment_status"], paid[f"{status}_at"]) == (status, "2026-01-01T00:00:00Z")
    assert (await world.get("/core/api/v1/fees", event_transaction_id="e1"))["meta"]["total_count"] == 1
    answer = await world.call("PUT", path, {"fee": {"payment_status": "lost"}})
    assert answer.json["error_details"] == {"payment_status": ["value_is_invalid"]}
    assert (await world.call("DELETE", path)).json["fee"]["lago_id"] == str(line.id)
    assert (await world.call("GET", path)).code == "fee_not_found"
    [told] = await world.fetch("select payload from outbox where org_id = $1 and kind = 'fee.deleted'")
    assert told["payload"] == {"amount_cents": 500, "event_transaction_id": "e1"}
