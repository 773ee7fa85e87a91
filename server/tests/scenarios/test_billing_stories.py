"""Months of billing told in dates: trials, periods of fees and of usage, fixed charges, commitments, grace, and how
coupons, taxes, credit and wallets come off one invoice. Through the API, to the cent."""

from typing import Any

import pytest

from world import World, audit

pytestmark = pytest.mark.database

STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}


async def subscriber(world: World, start: str = "2026-01-01", **plan: Any) -> None:
    """acme on the plan pro from `start` on, with a metric of tokens."""
    await world.turn(start)
    await world.a_metric()
    customer = plan.pop("customer", {})
    billing_time = plan.pop("billing_time", "anniversary")
    await world.a_plan(**plan)
    await world.a_customer(**customer)
    await world.subscribe("acme", "pro", billing_time=billing_time)


async def story(world: World) -> list[tuple[str, list[tuple[str, int]]]]:
    """Every invoice as (issuing date, [(kind of line, cents)]), lines of nothing left out."""
    return [
        (
            invoice["issuing_date"],
            [(line["kind"], line["amount_cents"]) for line in invoice["lines"] if line["amount_cents"]],
        )
        for invoice in await world.invoices("acme")
    ]


async def totals(world: World) -> list[int]:
    return [invoice["total_amount_cents"] for invoice in await world.invoices("acme")]


async def core_invoice(world: World, number: str) -> dict[str, Any]:
    found = await world.get("/core/api/v1/invoices", per_page=100)
    [invoice_id] = [one["lago_id"] for one in found["invoices"] if one["number"] == number]
    invoice: dict[str, Any] = (await world.get(f"/core/api/v1/invoices/{invoice_id}"))["invoice"]
    return invoice


# Trials.


async def test_a_trial_delays_the_fee_in_advance_and_bills_the_rest_of_the_period(world: World) -> None:
    """10 of January's 31 days are free: on the 11th the other 21 are billed, then whole months."""
    await subscriber(world, amount_cents=3100, pay_in_advance=True, trial_period=10)
    await world.turn("2026-01-10T23:59:59Z")
    assert await story(world) == []
    await world.turn("2026-02-01")
    assert await story(world) == [
        ("2026-01-11", [("subscription", 2100)]),
        ("2026-02-01", [("subscription", 3100)]),
    ]
    await audit(world)


async def test_usage_in_the_trial_is_billed(world: World) -> None:
    await subscriber(world, amount_cents=3100, pay_in_advance=True, trial_period=10, charges=[STANDARD])
    await world.at("2026-01-05").use("acme", 7)
    await world.turn("2026-02-01")
    assert await story(world) == [
        ("2026-01-11", [("subscription", 2100)]),
        ("2026-02-01", [("subscription", 3100), ("charge", 700)]),
    ]
    await audit(world)


async def test_a_trial_is_left_out_of_a_fee_in_arrears(world: World) -> None:
    await subscriber(world, amount_cents=3100, trial_period=10)
    await world.turn("2026-02-01")
    assert await story(world) == [("2026-02-01", [("subscription", 2100)])]
    await audit(world)


async def test_a_trial_longer_than_the_period_leaves_nothing_of_its_fee(world: World) -> None:
    """A trial of 40 days ends on 10 February: of its 28 days 19 are paid."""
    await subscriber(world, amount_cents=2800, trial_period=40)
    await world.turn("2026-03-01")
    assert await totals(world) == [0, 1900]
    await audit(world)


async def test_a_trial_longer_than_the_period_in_advance(world: World) -> None:
    await subscriber(world, amount_cents=2800, pay_in_advance=True, trial_period=40)
    await world.turn("2026-03-01")
    assert await story(world) == [
        ("2026-02-01", []),
        ("2026-02-10", [("subscription", 1900)]),
        ("2026-03-01", [("subscription", 2800)]),
    ]
    await audit(world)


async def test_a_trial_that_ends_with_the_period_bills_whole_ones_from_then_on(world: World) -> None:
    await subscriber(world, amount_cents=3100, pay_in_advance=True, trial_period=31)
    await world.turn("2026-02-01")
    assert [total for total in await totals(world) if total] == [3100]
    await audit(world)


# Periods.


async def test_usage_of_a_yearly_plan_is_billed_monthly_and_its_fee_once_a_year(world: World) -> None:
    await subscriber(
        world,
        interval="yearly",
        amount_cents=120000,
        pay_in_advance=True,
        bill_charges_monthly=True,
        charges=[STANDARD],
    )
    for month in range(1, 13):
        await world.at(f"2026-{month:02}-15").use("acme", month)
    await world.turn("2027-01-01")
    told = await story(world)
    assert told[0] == ("2026-01-01", [("subscription", 120000)])
    assert told[1:12] == [(f"2026-{month + 1:02}-01", [("charge", month * 100)]) for month in range(1, 12)]
    assert told[12] == ("2027-01-01", [("subscription", 120000), ("charge", 1200)])
    await audit(world)


async def test_usage_of_a_yearly_plan_is_billed_with_its_fee_otherwise(world: World) -> None:
    await subscriber(world, interval="yearly", amount_cents=120000, charges=[STANDARD])
    await world.at("2026-07-01").use("acme", 5)
    await world.turn("2027-01-01")
    assert await story(world) == [("2027-01-01", [("subscription", 120000), ("charge", 500)])]


@pytest.mark.parametrize(
    ("interval", "dates"),
    [
        ("weekly", ["2026-01-08", "2026-01-15"]),
        ("monthly", ["2026-02-01", "2026-03-01"]),
        ("quarterly", ["2026-04-01", "2026-07-01"]),
        ("semiannual", ["2026-07-01", "2027-01-01"]),
        ("yearly", ["2027-01-01", "2028-01-01"]),
    ],
)
async def test_every_interval_bills_when_it_ends(world: World, interval: str, dates: list[str]) -> None:
    await subscriber(world, interval=interval, amount_cents=700)
    await world.turn(dates[-1])
    assert await story(world) == [(date, [("subscription", 700)]) for date in dates]


async def test_a_calendar_plan_bills_the_days_of_its_first_month_and_whole_ones_after(world: World) -> None:
    await subscriber(world, "2026-01-16", amount_cents=3100, billing_time="calendar")
    await world.turn("2026-03-01")
    assert await story(world) == [
        ("2026-02-01", [("subscription", 1600)]),
        ("2026-03-01", [("subscription", 3100)]),
    ]


async def test_month_ends_clamp_and_come_back(world: World) -> None:
    await subscriber(world, "2026-01-31", amount_cents=100)
    await world.turn("2026-05-31")
    assert [date for date, _ in await story(world)] == [
        "2026-02-28",
        "2026-03-31",
        "2026-04-30",
        "2026-05-31",
    ]


async def test_a_leap_day_comes_back_in_leap_years(world: World) -> None:
    await subscriber(world, "2024-02-29", interval="yearly", amount_cents=100)
    await world.turn("2028-02-29")
    assert [date for date, _ in await story(world)] == [
        "2025-02-28",
        "2026-02-28",
        "2027-02-28",
        "2028-02-29",
    ]


@pytest.mark.parametrize(
    ("zone", "ends"),
    [
        ("America/Los_Angeles", "2026-04-01T07:00:00Z"),
        ("Europe/Berlin", "2026-03-31T22:00:00Z"),
        ("Australia/Lord_Howe", "2026-03-31T13:00:00Z"),
        ("Asia/Kathmandu", "2026-03-31T18:15:00Z"),
    ],
)
async def test_a_month_with_a_change_of_clocks_ends_at_local_midnight(
    world: World, zone: str, ends: str
) -> None:
    await subscriber(
        world, "2026-03-01T20:00:00Z", amount_cents=3100, billing_time="calendar", customer={"timezone": zone}
    )
    await world.turn("2026-04-10")
    assert (await world.last_invoice("acme"))["period_end"] == ends


# Fixed charges and commitments.


async def test_fixed_charges_are_billed_in_advance_and_in_arrears(world: World) -> None:
    add_on = {"code": "seats", "name": "Seats", "amount_cents": 1, "amount_currency": "USD"}
    await world.post("/core/api/v1/add_ons", {"add_on": add_on})
    fixed = {
        "add_on_code": "seats",
        "charge_model": "standard",
        "units": "3",
        "properties": {"amount": "10"},
    }
    graduated = {
        **fixed,
        "units": "12",
        "charge_model": "graduated",
        "properties": {
            "graduated_ranges": [
                {"from_value": 0, "to_value": 10, "per_unit_amount": "2", "flat_amount": "0"},
                {"from_value": 11, "to_value": None, "per_unit_amount": "1", "flat_amount": "0"},
            ]
        },
    }
    await subscriber(world, fixed_charges=[{**fixed, "pay_in_advance": True}, graduated])
    await world.turn("2026-02-01")
    assert await story(world) == [
        ("2026-01-01", [("fixed_charge", 3000)]),
        ("2026-02-01", [("fixed_charge", 3000), ("fixed_charge", 2200)]),
    ]
    await audit(world)


async def test_a_prorated_fixed_charge_counts_the_days_of_the_first_period(world: World) -> None:
    add_on = {"code": "seats", "name": "Seats", "amount_cents": 1, "amount_currency": "USD"}
    await world.post("/core/api/v1/add_ons", {"add_on": add_on})
    fixed = {
        "add_on_code": "seats",
        "charge_model": "standard",
        "units": "2",
        "properties": {"amount": "31"},
        "prorated": True,
    }
    await subscriber(world, "2026-01-16", fixed_charges=[fixed], billing_time="calendar")
    await world.turn("2026-03-01")
    assert await story(world) == [
        ("2026-02-01", [("fixed_charge", 3200)]),
        ("2026-03-01", [("fixed_charge", 6200)]),
    ]


async def test_a_commitment_is_trued_up_by_what_fee_and_usage_miss(world: World) -> None:
    await subscriber(world, amount_cents=300, charges=[STANDARD], minimum_commitment={"amount_cents": 1000})
    await world.use("acme", 2)
    await world.turn("2026-02-01")
    await world.use("acme", 20)
    await world.turn("2026-03-01")
    assert await story(world) == [
        ("2026-02-01", [("subscription", 300), ("charge", 200), ("commitment", 500)]),
        ("2026-03-01", [("subscription", 300), ("charge", 2000)]),
    ]
    await audit(world)


async def test_a_commitment_counts_the_fee_that_was_paid_in_advance_for_the_period(world: World) -> None:
    await subscriber(world, amount_cents=300, pay_in_advance=True, minimum_commitment={"amount_cents": 1000})
    await world.turn("2026-02-01")
    assert await story(world) == [
        ("2026-01-01", [("subscription", 300)]),
        ("2026-02-01", [("subscription", 300), ("commitment", 700)]),
    ]


async def test_a_commitment_of_a_year_counts_all_its_months(world: World) -> None:
    await subscriber(
        world,
        interval="yearly",
        bill_charges_monthly=True,
        charges=[STANDARD],
        minimum_commitment={"amount_cents": 10000},
    )
    for month in range(1, 13):
        await world.at(f"2026-{month:02}-15").use("acme", 5)
    await world.turn("2027-01-01")
    told = await story(world)
    assert [lines for _, lines in told[:-1]] == [[("charge", 500)]] * 11
    assert told[-1] == ("2027-01-01", [("charge", 500), ("commitment", 4000)])
    await audit(world)


async def test_a_charge_with_a_minimum_adds_what_is_missing(world: World) -> None:
    await subscriber(world, charges=[{**STANDARD, "min_amount_cents": 1000}])
    await world.use("acme", 4)
    await world.turn("2026-02-01")
    await world.use("acme", 12)
    await world.turn("2026-03-01")
    assert await story(world) == [
        ("2026-02-01", [("charge", 400), ("charge", 600)]),
        ("2026-03-01", [("charge", 1200)]),
    ]


# One invoice, from lines to what is to be paid.


async def test_coupon_tax_credit_and_wallet_come_off_in_that_order(world: World) -> None:
    """50.00 - 10 % coupon = 45.00; + 20 % tax = 54.00; - 30.00 from the wallet = 24.00."""
    await subscriber(world, amount_cents=5000)
    tax = {"code": "vat", "name": "VAT", "rate": "20", "applied_to_organization": True}
    await world.post("/core/api/v1/taxes", {"tax": tax})
    coupon = {
        "code": "ten",
        "name": "Ten",
        "coupon_type": "percentage",
        "percentage_rate": "10",
        "frequency": "forever",
        "expiration": "no_expiration",
    }
    await world.post("/core/api/v1/coupons", {"coupon": coupon})
    applied = {"external_customer_id": "acme", "coupon_code": "ten"}
    await world.post("/core/api/v1/applied_coupons", {"applied_coupon": applied})
    wallet = {
        "external_customer_id": "acme",
        "currency": "USD",
        "rate_amount": "1",
        "name": "Prepaid",
        "granted_credits": "30",
    }
    await world.post("/core/api/v1/wallets", {"wallet": wallet})
    await world.turn("2026-02-01")
    invoice = await core_invoice(world, "INV-001")
    assert {
        name: invoice[f"{name}_amount_cents"]
        for name in ("fees", "coupons", "sub_total_excluding_taxes", "taxes", "sub_total_including_taxes")
    } == {
        "fees": 5000,
        "coupons": 500,
        "sub_total_excluding_taxes": 4500,
        "taxes": 900,
        "sub_total_including_taxes": 5400,
    }
    assert (invoice["prepaid_credit_amount_cents"], invoice["total_amount_cents"]) == (3000, 2400)
    await world.turn("2026-03-01")
    assert (await core_invoice(world, "INV-002"))["total_amount_cents"] == 5400
    await audit(world)


async def test_a_draft_takes_no_credit_until_it_is_final(world: World) -> None:
    await world.settings(invoice_grace_period=5, net_payment_term=30)
    await subscriber(world, amount_cents=5000)
    wallet = {"external_customer_id": "acme", "currency": "USD", "rate_amount": "1", "granted_credits": "30"}
    await world.post("/core/api/v1/wallets", {"wallet": wallet})
    await world.turn("2026-02-03")
    [draft] = await world.invoices("acme")
    assert (draft["status"], draft["number"], draft["total_amount_cents"]) == ("draft", "DRAFT", 5000)
    await world.turn("2026-02-06")
    [final] = await world.invoices("acme")
    assert (final["number"], final["total_amount_cents"]) == ("INV-001", 2000)
    assert (final["issuing_date"], final["due_date"]) == ("2026-02-06", "2026-03-08")
    await audit(world)


async def test_an_invoice_of_zero_is_made_unless_it_is_not_wanted(world: World) -> None:
    await subscriber(world, charges=[STANDARD])
    await world.turn("2026-02-01")
    assert await totals(world) == [0]
    await world.settings(finalize_zero_invoices=False)
    await world.turn("2026-03-01")
    assert await totals(world) == [0]
    await world.use("acme", 3)
    await world.turn("2026-04-01")
    assert await totals(world) == [0, 300]
    assert [one["number"] for one in await world.invoices("acme")] == ["INV-001", "INV-002"]
    await audit(world)


@pytest.mark.parametrize(
    ("currency", "total"),
    [("JPY", 1235), ("USD", 123456), ("KWD", 1234564)],
)
async def test_every_currency_is_settled_to_its_own_minor_unit(
    world: World, currency: str, total: int
) -> None:
    """1,234.564 units at 1: 1,235 yen, 1,234.56 dollars, 1,234.564 dinars."""
    await subscriber(world, amount_currency=currency, charges=[STANDARD])
    await world.use("acme", "1234.564")
    await world.turn("2026-02-01")
    assert await totals(world) == [total]
    await audit(world)


async def test_the_smallest_price_is_exact_until_the_line_is_settled(world: World) -> None:
    """4,999,999,999 tokens at 0.000000000001 dollars are 0.4999999999 cents, and one more are half a cent."""
    tiny = {**STANDARD, "properties": {"amount": "0.000000000001"}}
    await subscriber(world, charges=[tiny])
    await world.use("acme", 4_999_999_999)
    await world.turn("2026-02-01")
    await world.use("acme", 5_000_000_000)
    await world.turn("2026-03-01")
    assert await totals(world) == [0, 1]
    lines = await world.fetch(
        "select exact_amount_cents from invoice_lines where org_id = $1 and kind = 'charge' order by period_start"
    )
    assert [format(row["exact_amount_cents"], "f").rstrip("0") for row in lines] == ["0.4999999999", "0.5"]


async def test_one_run_equals_two_half_runs(world: World, other_world: World) -> None:
    """Turning the clock over three months at once, or day by day, makes the same invoices."""
    for each in (world, other_world):
        await subscriber(
            each,
            "2026-01-10",
            amount_cents=3100,
            pay_in_advance=True,
            trial_period=5,
            charges=[{**STANDARD, "min_amount_cents": 500}],
            minimum_commitment={"amount_cents": 4000},
        )
        await each.use("acme", 7)
    await world.turn("2026-04-20")
    for day in range(11, 32):
        await other_world.turn(f"2026-01-{day:02}")
    for date in ("2026-02-10", "2026-03-01", "2026-03-10T00:00:00Z", "2026-04-09T23:59:59Z", "2026-04-20"):
        await other_world.turn(date)
    assert await story(world) == await story(other_world)
    assert len(await story(world)) == 4


async def test_two_subscriptions_that_end_together_share_an_invoice(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_plan(code="one", amount_cents=1000)
    await world.a_plan(code="two", amount_cents=2000)
    await world.a_customer()
    for plan in ("one", "two"):
        body = {"external_customer_id": "acme", "plan_code": plan, "external_id": f"sub-{plan}"}
        await world.post("/core/api/v1/subscriptions", {"subscription": body})
    await world.turn("2026-02-01")
    assert await story(world) == [("2026-02-01", [("subscription", 1000), ("subscription", 2000)])]
    await audit(world)
