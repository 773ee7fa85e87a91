"""Coupons given to customers, what invoices take of them, and how they end."""

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import pytest

from nozle_server.coupons.apply import DiscountableLine, plan_discounts
from nozle_server.coupons.operations import applicable_coupons, give_back_uses, record_uses
from world import Answer, World, instant

pytestmark = pytest.mark.database

PATH = "/core/api/v1/applied_coupons"
LINE = DiscountableLine("subscription", None, None, 4000)


async def a_coupon(world: World, code: str = "deal", cents: int | None = 5000, **more: object) -> str:
    """Five dollars once, unless it says otherwise; a percentage when `cents` is None."""
    kind: dict[str, object] = (
        {"coupon_type": "percentage", "percentage_rate": "10"}
        if cents is None
        else {"coupon_type": "fixed_amount", "amount_cents": cents, "amount_currency": "USD"}
    )
    wanted = {"code": code, "name": code, "frequency": "once", "expiration": "no_expiration", **kind, **more}
    await world.post("/core/api/v1/coupons", {"coupon": wanted})
    return code


async def try_to_give(world: World, coupon: str = "deal", customer: str = "acme", **more: object) -> Answer:
    body = {"applied_coupon": {"external_customer_id": customer, "coupon_code": coupon, **more}}
    return await world.call("POST", PATH, body)


async def give(world: World, coupon: str = "deal", customer: str = "acme", **more: object) -> Any:
    answer = await try_to_give(world, coupon, customer, **more)
    assert answer.status == 200, answer.body
    return answer.json["applied_coupon"]


async def held(world: World, **query: object) -> list[Any]:
    found: list[Any] = (await world.get(PATH, **query))["applied_coupons"]
    return found


async def an_invoice(world: World, at: str) -> uuid.UUID:
    """The customer's latest invoice, after turning the clock."""
    await world.turn(at)
    [row] = await world.fetch(
        "select id from invoices where org_id = $1 order by created_at desc, id desc limit 1"
    )
    found: uuid.UUID = row["id"]
    return found


async def bill(world: World, invoice_id: uuid.UUID, cents: int, at: str, currency: str = "USD") -> list[int]:
    """Take coupons off an invoice of one line, as billing does; what each took."""
    [row] = await world.fetch("select customer_id from invoices where org_id = $1 and id = $2", invoice_id)
    async with world.database.transaction() as tx:
        found = await applicable_coupons(tx, world.org_id, row["customer_id"], currency, instant(at))
        line = DiscountableLine("subscription", None, None, cents)
        discounts = plan_discounts([line], found, currency=currency)
        await record_uses(tx, world.org_id, invoice_id, discounts, instant(at))
    return [one.amount_cents for one in discounts]


async def void(world: World, invoice_id: uuid.UUID) -> None:
    async with world.database.transaction() as tx:
        await give_back_uses(tx, world.org_id, invoice_id)


@pytest.fixture
async def acme(world: World) -> World:
    """A world on New Year's day 2026 with a customer on a paid monthly plan, without a coupon."""
    await world.turn("2026-01-01")
    await world.a_customer()
    return world


async def billed(world: World, months: int) -> list[tuple[uuid.UUID, str]]:
    """Invoices of nothing for as many months, with their instants: coupons are taken off them by `bill`."""
    await world.a_plan(amount_cents=0, code="billed")
    await world.subscribe("acme", "billed")
    return [
        (await an_invoice(world, at), at) for at in (f"2026-{month:02}-01" for month in range(2, months + 2))
    ]


async def test_a_coupon_is_given_on_its_own_terms(acme: World) -> None:
    """Lago's object; it is listed with what invoices took of it, for the customer and for all."""
    await a_coupon(acme, frequency="recurring", frequency_duration=3)
    made = await give(acme)
    assert made == {
        "lago_id": made["nozle_id"],
        "nozle_id": made["nozle_id"],
        "lago_coupon_id": made["lago_coupon_id"],
        "coupon_code": "deal",
        "coupon_name": "deal",
        "lago_customer_id": made["lago_customer_id"],
        "external_customer_id": "acme",
        "status": "active",
        "amount_cents": 5000,
        "amount_cents_remaining": None,
        "amount_currency": "USD",
        "percentage_rate": None,
        "frequency": "recurring",
        "frequency_duration": 3,
        "frequency_duration_remaining": 3,
        "expiration_at": None,
        "created_at": "2026-01-01T00:00:00Z",
        "terminated_at": None,
    }
    assert await held(acme) == [{**made, "credits": []}]
    theirs = await acme.get("/core/api/v1/customers/acme/applied_coupons")
    assert theirs["applied_coupons"] == [{**made, "credits": []}]
    assert (await acme.get("/core/api/v1/coupons/deal"))["coupon"]["lago_id"] == made["lago_coupon_id"]


async def test_a_coupon_is_given_on_other_terms(acme: World) -> None:
    """What is given stands above the coupon's own terms; what its kind has no use for has no effect."""
    await a_coupon(acme)
    await a_coupon(acme, "percent", None)
    made = await give(
        acme, amount_cents=100, amount_currency="EUR", frequency="recurring", frequency_duration=2
    )
    assert (made["amount_cents"], made["amount_currency"], made["frequency"]) == (100, "EUR", "recurring")
    assert (made["frequency_duration"], made["frequency_duration_remaining"]) == (2, 2)
    made = await give(acme, "percent", percentage_rate=Decimal("7.5"), amount_cents=5, frequency="forever")
    assert (made["percentage_rate"], made["amount_cents"], made["frequency"]) == ("7.5", None, "forever")
    assert made["amount_cents_remaining"] is None


@pytest.mark.parametrize(
    ("change", "status", "code", "details"),
    [
        ({"customer": "nobody"}, 404, "customer_not_found", None),
        ({"coupon": "none"}, 404, "coupon_not_found", None),
        ({"amount_cents": -1}, 422, "validation_errors", {"amount_cents": ["value_is_out_of_range"]}),
        ({"amount_currency": "XXX"}, 422, "validation_errors", {"amount_currency": ["value_is_invalid"]}),
        (
            {"frequency": "recurring"},
            422,
            "validation_errors",
            {"frequency_duration": ["value_is_mandatory"]},
        ),
        ({"frequency": "often"}, 422, "validation_errors", {"frequency": ["value_is_invalid"]}),
    ],
)
async def test_what_cannot_be_given_is_refused_and_changes_nothing(
    acme: World, change: dict[str, Any], status: int, code: str, details: dict[str, list[str]] | None
) -> None:
    await a_coupon(acme)
    answer = await try_to_give(acme, **change)
    assert (answer.status, answer.code, answer.json.get("error_details")) == (status, code, details)
    assert await held(acme) == []


async def test_a_customer_pays_in_one_currency(acme: World) -> None:
    """https://getlago.com/docs/guide/coupons: without a currency the customer gets the coupon's; a percentage has none."""
    await a_coupon(acme)
    await a_coupon(acme, "percent", None)
    await give(acme, "percent")
    [row] = await acme.fetch("select currency from customers where org_id = $1")
    assert row["currency"] is None
    await give(acme, amount_currency="JPY")
    [row] = await acme.fetch("select currency from customers where org_id = $1")
    assert row["currency"] == "JPY"
    answer = await try_to_give(acme)
    assert (answer.status, answer.json["error_details"]) == (422, {"currency": ["currencies_does_not_match"]})


async def test_a_coupon_is_reusable_or_not(acme: World) -> None:
    """Not even after it was taken away."""
    await a_coupon(acme)
    await a_coupon(acme, "single", reusable=False)
    assert (await give(acme))["lago_id"] != (await give(acme))["lago_id"]
    made = await give(acme, "single")
    await acme.call("DELETE", f"/core/api/v1/customers/acme/applied_coupons/{made['lago_id']}")
    answer = await try_to_give(acme, "single")
    assert (answer.status, answer.json["error_details"]) == (422, {"coupon": ["coupon_is_not_reusable"]})
    await acme.a_customer("other")
    assert (await give(acme, "single", "other"))["status"] == "active"


async def test_one_of_two_at_once_gets_a_coupon_that_is_not_reusable(acme: World) -> None:
    await a_coupon(acme, reusable=False)
    answers = await asyncio.gather(*(try_to_give(acme) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [200, 422, 422, 422, 422, 422]
    assert len(await held(acme)) == 1


async def test_a_repeated_request_gives_one_coupon(acme: World) -> None:
    await a_coupon(acme)
    body = {"applied_coupon": {"external_customer_id": "acme", "coupon_code": "deal"}}
    first = await acme.call("POST", PATH, body, headers={"idempotency-key": "k"})
    again = await acme.call("POST", PATH, body, headers={"idempotency-key": "k"})
    assert (again.json, again.replayed, len(await held(acme))) == (first.json, True, 1)


async def test_coupons_for_the_same_plan_or_metric_exclude_each_other(acme: World) -> None:
    """https://getlago.com/docs/guide/coupons: plan A charges for api_calls, so coupons for both are too much."""
    charge = {"billable_metric_code": "api_calls", "charge_model": "standard", "properties": {"amount": "1"}}
    await acme.a_metric(code="api_calls", how="count_agg")
    await acme.a_plan(code="a", charges=[charge])
    await acme.a_plan(code="b")
    for code, target in (
        ("plan a", {"plan_codes": ["a"]}),
        ("plans a b", {"plan_codes": ["a", "b"]}),
        ("plan b", {"plan_codes": ["b"]}),
        ("calls", {"billable_metric_codes": ["api_calls"]}),
    ):
        await a_coupon(acme, code, applies_to=target)
    await a_coupon(acme, "all")
    first = await give(acme, "plan a")
    for coupon in ("plan a", "plans a b", "calls"):
        answer = await try_to_give(acme, coupon)
        assert (answer.status, answer.code) == (422, "plan_overlapping"), coupon
    await give(acme, "all")
    await give(acme, "plan b")
    await acme.call("DELETE", f"/core/api/v1/customers/acme/applied_coupons/{first['lago_id']}")
    await give(acme, "calls")
    assert (await try_to_give(acme, "plan a")).code == "plan_overlapping"


async def test_who_has_a_coupon_keeps_it_beyond_its_expiration(acme: World) -> None:
    """https://getlago.com/docs/guide/coupons; nobody gets it any more."""
    await a_coupon(acme, "deal", None, expiration="time_limit", expiration_at="2026-01-15T00:00:00Z")
    made = await give(acme)
    assert made["expiration_at"] == "2026-01-15T00:00:00Z"
    [(invoice, at)] = await billed(acme, 1)
    answer = await try_to_give(acme)
    assert (answer.status, answer.code) == (404, "coupon_not_found")
    assert await bill(acme, invoice, 1000, at) == [100]


async def test_a_coupon_is_taken_away(acme: World) -> None:
    """At once, once, and only from the customer who has it."""
    await a_coupon(acme)
    await acme.a_customer("other")
    made = await give(acme)
    place = "/core/api/v1/customers/{}/applied_coupons/{}"
    await acme.turn("2026-01-05")
    for target, code in (
        (place.format("nobody", made["lago_id"]), "customer_not_found"),
        (place.format("other", made["lago_id"]), "applied_coupon_not_found"),
        (place.format("acme", uuid.uuid4()), "applied_coupon_not_found"),
        (place.format("acme", "1"), "applied_coupon_not_found"),
    ):
        answer = await acme.call("DELETE", target)
        assert (answer.status, answer.code) == (404, code)
    removed = (await acme.call("DELETE", place.format("acme", made["lago_id"]))).json["applied_coupon"]
    assert removed == {**made, "status": "terminated", "terminated_at": "2026-01-05T00:00:00Z"}
    await acme.turn("2026-01-06")
    assert (await acme.call("DELETE", place.format("acme", made["lago_id"]))).json[
        "applied_coupon"
    ] == removed


async def test_deleting_a_coupon_takes_it_from_everybody(acme: World) -> None:
    await a_coupon(acme)
    await give(acme)
    await acme.turn("2026-01-05")
    await acme.call("DELETE", "/core/api/v1/coupons/deal")
    [found] = await held(acme)
    assert (found["status"], found["terminated_at"], found["coupon_code"]) == (
        "terminated",
        "2026-01-05T00:00:00Z",
        "deal",
    )


async def test_lists_are_filtered_and_paged(acme: World, other_world: World) -> None:
    await acme.a_customer("other")
    await a_coupon(acme)
    await a_coupon(acme, "percent", None)
    made = await give(acme)
    await give(acme, "percent")
    await give(acme, "percent", "other")
    await acme.call("DELETE", f"/core/api/v1/customers/acme/applied_coupons/{made['lago_id']}")

    async def codes(**query: object) -> list[tuple[str, str]]:
        return [(one["external_customer_id"], one["coupon_code"]) for one in await held(acme, **query)]

    everything = [("other", "percent"), ("acme", "percent"), ("acme", "deal")]
    assert await codes() == everything
    assert await codes(external_customer_id="acme") == everything[1:]
    assert await codes(status="terminated") == everything[2:]
    assert await codes(status="active", external_customer_id="acme") == everything[1:2]
    assert await codes(**{"coupon_code[]": ["percent", "none"]}) == everything[:2]
    assert await codes(**{"coupon_code[]": ["none"]}) == []
    assert await codes(external_customer_id="nobody") == []
    assert [await codes(per_page=2, page=page) for page in (1, 2)] == [everything[:2], everything[2:]]
    theirs = await acme.get("/core/api/v1/customers/acme/applied_coupons", status="active")
    assert ([one["coupon_code"] for one in theirs["applied_coupons"]], theirs["meta"]["total_count"]) == (
        ["percent"],
        1,
    )
    assert (
        await acme.call("GET", "/core/api/v1/customers/nobody/applied_coupons")
    ).code == "customer_not_found"
    for status in ("old", "null", ""):
        assert (await acme.call("GET", f"{PATH}?status={status}")).status == 422
    assert await held(other_world) == []
    assert (await acme.call("GET", PATH, key=acme.publishable)).status == 403


async def test_a_fixed_amount_given_once_runs_down_over_invoices(acme: World) -> None:
    """The unused rest is for the next invoices until it is used up; each invoice's part is shown as a credit."""
    await a_coupon(acme)
    await give(acme)
    (first, at1), (second, at2), (third, at3) = await billed(acme, 3)
    assert await bill(acme, first, 3000, at1) == [3000]
    [found] = await held(acme)
    assert (found["status"], found["amount_cents_remaining"]) == ("active", 2000)
    assert await bill(acme, second, 3000, at2) == [2000]
    [found] = await held(acme)
    assert (found["status"], found["amount_cents_remaining"]) == ("terminated", 0)
    assert found["terminated_at"] == "2026-03-01T00:00:00Z"
    [credit, _] = found["credits"]
    assert credit == {
        "lago_id": credit["nozle_id"],
        "nozle_id": credit["nozle_id"],
        "amount_cents": 3000,
        "amount_currency": "USD",
        "before_taxes": True,
        "item": {
            "lago_item_id": found["lago_coupon_id"],
            "type": "coupon",
            "code": "deal",
            "name": "deal",
            "description": None,
        },
        "invoice": {"lago_id": str(first), "payment_status": "succeeded"},
    }
    assert await bill(acme, third, 3000, at3) == []


async def test_a_recurring_coupon_counts_its_invoices(acme: World) -> None:
    """What an invoice leaves of it is lost; an invoice with nothing to discount is not counted."""
    await a_coupon(acme, frequency="recurring", frequency_duration=2)
    await give(acme)
    months = await billed(acme, 4)
    taken = [
        await bill(acme, invoice, cents, at)
        for (invoice, at), cents in zip(months, (100, 0, 9000, 9000), strict=True)
    ]
    assert taken == [[100], [], [5000], []]
    [found] = await held(acme)
    assert (found["status"], found["frequency_duration_remaining"]) == ("terminated", 0)


async def test_percentages_once_and_forever(acme: World) -> None:
    await a_coupon(acme, "once", None)
    await a_coupon(acme, "forever", None, frequency="forever")
    await give(acme, "once")
    await give(acme, "forever")
    months = await billed(acme, 3)
    taken = [await bill(acme, invoice, 1000, at) for invoice, at in months]
    assert taken == [[100, 90], [100], [100]]
    assert [one["status"] for one in await held(acme)] == ["active", "terminated"]


async def test_an_invoice_uses_what_the_customer_had_at_its_instant(acme: World) -> None:
    """Not what was given since, in its currency only."""
    await a_coupon(acme)
    await a_coupon(acme, "percent", None)
    [(invoice, _)] = await billed(acme, 1)
    await give(acme)
    await give(acme, "percent")
    assert await bill(acme, invoice, 9000, "2026-01-31T23:59:59Z") == []
    assert await bill(acme, invoice, 9000, "2026-02-01", currency="EUR") == [900]


async def test_a_voided_invoice_gives_back_what_it_took(acme: World) -> None:
    """The amount and the period come back, and the coupon with them; once, however often it is asked for."""
    await a_coupon(acme)
    await a_coupon(acme, "recurring", None, frequency="recurring", frequency_duration=2)
    await give(acme)
    await give(acme, "recurring")
    (first, at1), (second, at2) = await billed(acme, 2)

    async def states() -> list[tuple[str, object, object]]:
        return [
            (one["status"], one["amount_cents_remaining"], one["frequency_duration_remaining"])
            for one in reversed(await held(acme))
        ]

    assert await bill(acme, first, 9000, at1) == [5000, 400]
    assert await bill(acme, second, 9000, at2) == [900]
    assert await states() == [("terminated", 0, None), ("terminated", None, 0)]
    await void(acme, first)
    assert await states() == [("active", 5000, None), ("active", None, 1)]
    await void(acme, first)
    assert await states() == [("active", 5000, None), ("active", None, 1)]
    await void(acme, second)
    assert await states() == [("active", 5000, None), ("active", None, 2)]


async def test_a_voided_invoice_does_not_bring_back_what_was_taken_away(acme: World) -> None:
    await a_coupon(acme)
    await a_coupon(acme, "deleted", None)
    made = await give(acme)
    await give(acme, "deleted")
    [(invoice, at)] = await billed(acme, 1)
    assert await bill(acme, invoice, 1000, at) == [1000]
    await acme.call("DELETE", f"/core/api/v1/customers/acme/applied_coupons/{made['lago_id']}")
    await acme.call("DELETE", "/core/api/v1/coupons/deleted")
    await void(acme, invoice)
    assert [(one["status"], one["amount_cents_remaining"]) for one in reversed(await held(acme))] == [
        ("terminated", 5000),
        ("terminated", None),
    ]


async def test_two_invoices_at_once_share_one_amount(acme: World) -> None:
    """The second waits until the first has taken its part, and sees that."""
    await a_coupon(acme)
    await give(acme)
    (first, at), (second, _) = await billed(acme, 2)
    [row] = await acme.fetch("select customer_id from invoices where org_id = $1 and id = $2", first)
    async with acme.database.transaction() as tx:
        found = await applicable_coupons(tx, acme.org_id, row["customer_id"], "USD", instant(at))
        other = asyncio.create_task(bill(acme, second, 4000, at))
        await asyncio.sleep(0.1)  # as long as it takes to run into the lock
        discounts = plan_discounts([LINE], found, currency="USD")
        await record_uses(tx, acme.org_id, first, discounts, instant(at))
    assert ([one.amount_cents for one in discounts], await other) == ([4000], [1000])
