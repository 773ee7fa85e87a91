"""From fees to what is to be paid: commitments, fixed charges, coupons, taxes, wallets, credit notes, grace; figures of
Lago's scenarios."""

from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from parity import (
    Bill,
    a_coupon,
    a_tax,
    assert_bills,
    bill,
    credited,
    end,
    invoices,
    notes,
    pay,
    standard,
    start,
)
from world import World, audit

pytestmark = pytest.mark.database


async def a_month(
    world: World,
    *used: int,
    begins: str = "2024-03-01",
    customer: dict[str, Any] | None = None,
    **plan: Any,
) -> None:
    """acme on a plan with units at a dollar from the 1st of March, and events of the 5th."""
    await world.turn(begins)
    await world.a_metric()
    await world.a_plan(**{"charges": [standard()], **plan})
    await world.a_customer(**(customer or {}))
    await start(world, begins)
    for amount in used:
        await world.at(f"{begins[:8]}05T10:00").use("acme", amount)


# Commitments.


class Promise(NamedTuple):
    interval: str
    billing_time: str
    begins: str
    billed: str
    missing: int


PROMISES = [
    # commitments/minimum/in_arrears_spec and in_advance_spec: a fee of 1,000 and a promise of 10,000, by days.
    Promise("weekly", "calendar", "2023-02-01", "2023-02-06T01:00", 642_857),
    Promise("weekly", "anniversary", "2023-02-01", "2023-02-08T01:00", 900_000),
    Promise("monthly", "calendar", "2023-02-04", "2023-03-01T01:00", 803_571),
    Promise("monthly", "anniversary", "2023-02-04", "2023-03-04T01:00", 900_000),
    Promise("quarterly", "calendar", "2023-02-04", "2023-04-01T01:00", 560_000),
    Promise("quarterly", "anniversary", "2023-02-04", "2023-05-04T01:00", 900_000),
    Promise("yearly", "calendar", "2022-02-01", "2023-01-01T01:00", 823_561),
    Promise("yearly", "anniversary", "2022-02-04", "2023-02-04T01:00", 900_000),
]


@pytest.mark.parametrize("advance", [False, True], ids=["arrears", "advance"])
@pytest.mark.parametrize(
    "promise", PROMISES, ids=lambda promise: f"{promise.interval} {promise.billing_time}"
)
async def test_a_commitment_is_missed_by_as_much_as_with_lago(
    world: World, promise: Promise, advance: bool
) -> None:
    await world.turn(promise.begins)
    await world.a_plan(
        interval=promise.interval,
        amount_cents=100_000,
        pay_in_advance=advance,
        minimum_commitment={"amount_cents": 1_000_000},
    )
    await world.a_customer()
    await start(world, promise.begins, billing_time=promise.billing_time)
    await world.turn(promise.billed)
    found = await invoices(world)
    assert [bill(one, {"commitment": []})["commitment"] for one in found] == [[]] * advance + [
        [promise.missing]
    ]
    await audit(world)


async def test_the_commitments_of_a_week_in_advance_that_ends(world: World) -> None:
    """commitments/minimum/in_advance_spec: five days, seven, and three until the end, each in arrears of its fee."""
    await world.turn("2023-02-01")
    await world.a_plan(
        interval="weekly",
        amount_cents=100_000,
        pay_in_advance=True,
        minimum_commitment={"amount_cents": 1_000_000},
    )
    await world.a_customer()
    await start(world, "2023-02-01")
    await world.turn("2023-02-13T10:00")
    await end(world, "2023-02-15T10:00")
    await assert_bills(
        world,
        [{"commitment": []}, {"commitment": [642_857]}, {"commitment": [900_000]}, {"commitment": [328_571]}],
    )
    await audit(world)


async def test_the_commitment_of_a_month_before_a_downgrade_is_whole(world: World) -> None:
    """commitments/minimum/on_termination_spec"""
    await world.turn("2024-03-01")
    await world.a_plan(code="enterprise", amount_cents=10_000, minimum_commitment={"amount_cents": 1_000_000})
    await world.a_plan(code="cheaper", amount_cents=1000)
    await world.a_customer()
    await start(world, "2024-03-01", "enterprise")
    await start(world, "2024-05-15", "cheaper")
    await world.turn("2024-06-01T00:16")
    each: Bill = {"subscription": [10_000], "commitment": [990_000], "total": 1_000_000}
    await assert_bills(world, [each] * 3)
    await audit(world)


async def test_a_coupon_and_taxes_are_on_the_commitment_too(world: World) -> None:
    """golden/b12: 20.00 of fee, 30.00 of usage and 50.00 missing; 20.00 off; 20 % of tax."""
    await world.turn("2024-03-01")
    await a_tax(world, "20")
    await a_month(world, 30, amount_cents=2000, minimum_commitment={"amount_cents": 10_000})
    await a_coupon(world, amount_cents=2000)
    await world.turn("2024-04-01")
    await assert_bills(
        world,
        [
            {
                "subscription": [2000],
                "charge": [3000],
                "commitment": [5000],
                "coupons": 2000,
                "before_tax": 8000,
                "taxes": 1600,
                "total": 9600,
            }
        ],
    )
    [invoice] = await invoices(world)
    assert sorted(fee["taxes_amount_cents"] for fee in invoice["fees"]) == [320, 480, 800]
    await audit(world)


# Fixed charges.


class Seats(NamedTuple):
    told: str
    fixed: dict[str, Any]
    begins: str
    bills: list[list[int]]


SEATS = [
    # golden/b13: 5 seats of 200.00; then 40 of 100.00 from the 16th of April's 30 days.
    Seats(
        "in arrears", {"units": "5", "properties": {"amount": "200"}}, "2024-03-01", [[100_000], [100_000]]
    ),
    Seats(
        "in advance by days", {"pay_in_advance": True, "prorated": True}, "2024-04-16", [[200_000], [400_000]]
    ),
    Seats("in advance in full", {"pay_in_advance": True}, "2024-04-16", [[400_000], [400_000]]),
    Seats("in arrears by days", {"prorated": True}, "2024-04-16", [[200_000]]),
]


@pytest.mark.parametrize("seats", SEATS, ids=lambda seats: seats.told)
async def test_seats_of_a_plan_cost_what_they_cost_with_lago(world: World, seats: Seats) -> None:
    await world.turn(seats.begins)
    add_on = {"code": "seat", "name": "Seat", "amount_cents": 20_000, "amount_currency": "USD"}
    await world.post("/core/api/v1/add_ons", {"add_on": add_on})
    fixed = {
        "add_on_code": "seat",
        "charge_model": "standard",
        "units": "40",
        "properties": {"amount": "100"},
    }
    await world.a_plan(fixed_charges=[{**fixed, **seats.fixed}])
    await world.a_customer()
    await start(world, seats.begins)
    await world.turn("2024-05-01T01:00")
    await assert_bills(world, [{"fixed_charge": cents} for cents in seats.bills])
    await audit(world)


# Coupons and taxes.


async def test_three_coupons_on_eight_charges_of_two_plans(world: World) -> None:
    """coupons_breakdown_spec: by metrics, then by plans, then the rest; each line is taxed on what it keeps.

    Lago rounds the tax of each line by itself, so one may differ by a cent (decision 0008, rounding of taxes).
    """
    await world.turn("2023-01-01")
    await a_tax(world, "10", "ten", applied=False)
    await a_tax(world, "20", "twenty", applied=False)
    await world.a_customer()
    for plan, metrics in (("one", range(1, 5)), ("two", range(5, 9))):
        for number in metrics:
            await world.a_metric(code=f"m{number}")
        rates = ["ten", "twenty", "ten", "ten"]
        charges = [
            standard("1", f"m{number}", tax_codes=[rate]) for number, rate in zip(metrics, rates, strict=True)
        ]
        await world.a_plan(code=plan, charges=charges)
        await start(world, "2023-01-01", plan, plan)
    await a_coupon(
        world, code="metrics", amount_cents=2000, applies_to={"billable_metric_codes": ["m1", "m2"]}
    )
    await a_coupon(world, code="plan", amount_cents=1000, applies_to={"plan_codes": ["two"]})
    await a_coupon(world, code="all", amount_cents=500)
    for number in range(1, 9):
        units, plan = 10 * ((number - 1) % 4 + 1), "one" if number < 5 else "two"
        event = {"code": f"m{number}", "transaction_id": f"t{number}", "external_subscription_id": plan}
        await world.post("/api/v1/events", {"event": {**event, "properties": {"n": units}}})
    await world.turn("2023-02-01")
    [invoice] = await invoices(world)
    by_metric = {fee["item"]["code"]: fee for fee in invoice["fees"] if fee["item"]["type"] == "charge"}
    shares = [
        "676.47059", "1352.94118", "88.23529", "117.64706", "126.47059", "252.94118", "379.41176", "505.88235",
    ]  # fmt: skip
    for number, share in enumerate(shares, 1):
        exact = Decimal(by_metric[f"m{number}"]["precise_coupons_amount_cents"])
        assert abs(exact - Decimal(share)) < Decimal("0.00002"), number
    lago = [32, 129, 291, 388, 87, 349, 262, 349]
    ours = [by_metric[f"m{number}"]["taxes_amount_cents"] for number in range(1, 9)]
    assert all(abs(mine - theirs) <= 1 for mine, theirs in zip(ours, lago, strict=True)), ours
    wanted: Bill = {"fees": 20_000, "coupons": 3500, "before_tax": 16_500, "taxes": 1889, "total": 18_389}
    assert bill(invoice, wanted) == wanted
    await audit(world)


async def test_the_nearest_tax_decides_alone(world: World) -> None:
    """golden/b10: 25 % of the charge's own, 15 % of the plan's; never the customer's 10 or the organization's 5."""
    await world.turn("2024-03-01")
    for code, rate in (("entity", "5"), ("own", "10"), ("plan", "15"), ("charge", "25")):
        await a_tax(world, rate, code, applied=code == "entity")
    await world.a_metric(code="taxed")
    await world.a_metric(code="untaxed")
    await world.a_plan(
        amount_cents=1000,
        tax_codes=["plan"],
        charges=[standard("1", "taxed", tax_codes=["charge"]), standard("1", "untaxed")],
    )
    await world.a_customer(tax_codes=["own"])
    await a_coupon(world, amount_cents=1600)
    await start(world, "2024-03-01")
    await world.at("2024-03-05").use("acme", 100, code="taxed")
    await world.use("acme", 50, code="untaxed")
    await world.turn("2024-04-01")
    wanted: Bill = {"fees": 16_000, "coupons": 1600, "before_tax": 14_400, "taxes": 3060, "total": 17_460}
    await assert_bills(world, [wanted])
    [invoice] = await invoices(world)
    assert sorted(fee["taxes_amount_cents"] for fee in invoice["fees"]) == [135, 675, 2250]
    await audit(world)


async def test_a_percentage_for_three_months_and_the_tax_of_the_customer(world: World) -> None:
    """golden/b10"""
    await world.turn("2024-03-01")
    await a_tax(world, "5", "entity")
    await a_tax(world, "10", "own", applied=False)
    await a_month(world, 100, amount_cents=1000, customer={"tax_codes": ["own"]})
    await a_coupon(world, rate="10", frequency="recurring", frequency_duration=3)
    await world.turn("2024-04-01")
    wanted: Bill = {"fees": 11_000, "coupons": 1100, "before_tax": 9900, "taxes": 990, "total": 10_890}
    await assert_bills(world, [wanted])


async def test_a_coupon_for_once_is_gone_when_it_is_used_up(world: World) -> None:
    """golden/b10: 40.00 off 100.00, then nothing; 25 % on the charge and 20 % on the fee."""
    await world.turn("2024-03-01")
    await a_tax(world, "20", "entity")
    await a_tax(world, "25", "charge", applied=False)
    await a_month(world, 80, amount_cents=2000, charges=[standard("1", tax_codes=["charge"])])
    await a_coupon(world, amount_cents=4000)
    await world.turn("2024-04-01")
    await world.at("2024-04-05").use("acme", 80)
    await world.turn("2024-05-01")
    await assert_bills(
        world,
        [
            {"fees": 10_000, "coupons": 4000, "before_tax": 6000, "taxes": 1440, "total": 7440},
            {"fees": 10_000, "coupons": 0, "before_tax": 10_000, "taxes": 2400, "total": 12_400},
        ],
    )


@pytest.mark.parametrize("advance", [True, False], ids=["advance", "arrears"])
async def test_a_coupon_for_ever_is_new_every_month(world: World, advance: bool) -> None:
    """coupons_billing_period_spec: 15.00 off 10.00 is 10.00, month by month."""
    await world.turn("2025-01-01")
    await world.a_plan(amount_cents=1000, pay_in_advance=advance)
    await world.a_customer()
    await a_coupon(world, amount_cents=1500, frequency="forever")
    await start(world, "2025-01-01")
    await world.turn("2025-03-01")
    await assert_bills(world, [{"fees": 1000, "coupons": 1000, "total": 0}] * (2 + advance))
    await audit(world)


# Wallets.


class Wallet(NamedTuple):
    told: str
    wallets: list[dict[str, Any]]
    used: int
    bill: Bill
    left: list[int]
    paid: bool = False
    fee: int = 0
    coupon: int = 0


WALLETS = [
    # golden/b06
    Wallet("covers a part", [{"granted_credits": "10"}], 30, {"fees": 3000, "prepaid": 1000, "total": 2000}, [0]),
    Wallet("bought and not paid", [{"paid_credits": "10"}], 30, {"prepaid": 0, "total": 3000}, [0]),
    Wallet("bought and paid", [{"paid_credits": "10"}], 30, {"prepaid": 1000, "total": 2000}, [0], paid=True),
    Wallet("covers all", [{"granted_credits": "100"}], 30, {"prepaid": 3000, "total": 0}, [7000]),
    Wallet("for charges alone", [{"granted_credits": "100", "applies_to": {"fee_types": ["charge"]}}], 30,
           {"fees": 8000, "prepaid": 3000, "total": 5000}, [7000], fee=5000),
    Wallet("for charges alone, bought too",
           [{"granted_credits": "20", "paid_credits": "60", "applies_to": {"fee_types": ["charge"]}}], 60,
           {"fees": 11_000, "prepaid": 6000, "total": 5000}, [2000], paid=True, fee=5000),
    Wallet("the first in line first", [{"granted_credits": "100", "priority": 20},
                                       {"granted_credits": "10", "priority": 1}], 30,
           {"prepaid": 3000, "total": 0}, [8000, 0]),
    # Lago makes 6.67 of 10 free credits at 0.6665; we keep 6.665, and half a cent pays nothing (decision 0008, wallets).
    Wallet("at a rate that rounds", [{"rate_amount": "0.6665", "granted_credits": "10", "paid_credits": "50"}], 60,
           {"fees": 6000, "prepaid": 3999, "total": 2001}, [0], paid=True),
    Wallet("after a coupon", [{"granted_credits": "20", "paid_credits": "80"}], 60,
           {"fees": 6000, "coupons": 2000, "prepaid": 4000, "total": 0}, [6000], paid=True, coupon=2000),
]  # fmt: skip


@pytest.mark.parametrize("case", WALLETS, ids=lambda case: case.told)
async def test_a_wallet_pays_what_it_pays_with_lago(world: World, case: Wallet) -> None:
    await a_month(world, case.used, amount_cents=case.fee)
    if case.coupon:
        await a_coupon(world, amount_cents=case.coupon)
    made = [await world.a_wallet(**wallet) for wallet in case.wallets]
    for one in await invoices(world) if case.paid else []:
        await pay(world, one)
    await world.turn("2024-04-01T01:00")
    last = (await invoices(world))[-1]
    assert bill(last, case.bill) == case.bill
    left = [
        (await world.get(f"/core/api/v1/wallets/{one['lago_id']}"))["wallet"]["balance_cents"] for one in made
    ]
    assert left == case.left
    await audit(world)


async def test_a_wallet_for_one_metric(world: World) -> None:
    """golden/b06: it pays 30.00 of one and leaves 20.00 of the other."""
    await world.turn("2024-03-01")
    await world.a_metric(code="covered")
    await world.a_metric(code="other")
    await world.a_plan(charges=[standard("1", "covered"), standard("1", "other")])
    await world.a_customer()
    await start(world, "2024-03-01")
    await world.a_wallet(granted_credits="100", applies_to={"billable_metric_codes": ["covered"]})
    await world.at("2024-03-05").use("acme", 30, code="covered")
    await world.use("acme", 20, code="other")
    await world.turn("2024-04-01")
    await assert_bills(world, [{"fees": 5000, "prepaid": 3000, "total": 2000}])
    await audit(world)


async def test_what_is_left_of_a_wallet_while_the_month_runs(world: World) -> None:
    """golden/b06: 50.00 less 60.00 of usage are 10.00 below nothing."""
    await a_month(world, 60)
    made = await world.a_wallet(granted_credits="20", paid_credits="30")
    await pay(world, (await invoices(world))[0])
    await world.turn("2024-03-10")
    shown = (await world.get(f"/core/api/v1/wallets/{made['lago_id']}"))["wallet"]
    names = ("balance_cents", "ongoing_usage_balance_cents", "ongoing_balance_cents")
    assert [shown[name] for name in names] == [5000, 6000, -1000]


# In which order.


async def test_a_coupon_comes_off_before_taxes_and_a_wallet_after(world: World) -> None:
    """golden/b15: 100.00 - 40.00, + 20 %, - 30.00 are 42.00."""
    await world.turn("2024-03-01")
    await a_tax(world, "20")
    await a_month(world, 100)
    await a_coupon(world, amount_cents=4000)
    await world.a_wallet(granted_credits="30")
    await world.turn("2024-04-01")
    await assert_bills(
        world,
        [
            {
                "fees": 10_000, "coupons": 4000, "before_tax": 6000, "taxes": 1200, "prepaid": 3000, "total": 4200,
            }
        ],
    )  # fmt: skip
    await audit(world)


async def credit(world: World, invoice: dict[str, Any], *amounts: int, **how: object) -> dict[str, Any]:
    """A credit note of so much of the invoice's fees, in their order; 0 leaves a fee out."""
    items = [
        {"fee_id": fee["lago_id"], "amount_cents": amount}
        for fee, amount in zip(invoice["fees"], amounts, strict=True)
        if amount
    ]
    body = {"invoice_id": invoice["lago_id"], "reason": "other", "items": items, **how}
    made: dict[str, Any] = (await world.post("/core/api/v1/credit_notes", {"credit_note": body}))[
        "credit_note"
    ]
    return made


def ordered(invoice: dict[str, Any], *kinds: str) -> dict[str, Any]:
    """The invoice with its fees of these types, in this order."""
    return {
        **invoice,
        "fees": [fee for kind in kinds for fee in invoice["fees"] if fee["item"]["type"] == kind],
    }


async def test_a_credit_note_brings_its_taxes_and_is_spent_after_taxes(world: World) -> None:
    """golden/b15: 40.00 and 8.00 come back and pay 48.00 of the next 60.00."""
    await world.turn("2024-03-01")
    await a_tax(world, "20")
    await a_month(world, 100)
    await world.turn("2024-04-01")
    [first] = await invoices(world)
    made = await credit(world, ordered(first, "charge"), 4000, credit_amount_cents=4800)
    assert (made["taxes_amount_cents"], made["total_amount_cents"]) == (800, 4800)
    await world.at("2024-04-10").use("acme", 50)
    await world.turn("2024-05-01")
    await assert_bills(
        world,
        [
            {"fees": 10_000, "taxes": 2000, "total": 12_000},
            {"fees": 5000, "before_tax": 5000, "taxes": 1000, "notes": 4800, "total": 1200},
        ],
    )
    await audit(world)


async def test_a_credit_note_of_all_gives_the_coupon_s_share_back_with_it(world: World) -> None:
    """golden/b08: 150.00 less a coupon of 30.00; both fees credited whole are 120.00."""
    await a_month(world, 100, amount_cents=5000)
    await a_coupon(world, amount_cents=3000)
    await world.turn("2024-04-01")
    [invoice] = await invoices(world)
    assert bill(invoice, {"fees": 0, "coupons": 0, "total": 0}) == {
        "fees": 15_000,
        "coupons": 3000,
        "total": 12_000,
    }
    made = await credit(
        world, ordered(invoice, "subscription", "charge"), 5000, 10_000, credit_amount_cents=12_000
    )
    assert (made["coupons_adjustment_amount_cents"], made["balance_amount_cents"]) == (3000, 12_000)
    await audit(world)


async def test_a_refund_of_a_paid_invoice(world: World) -> None:
    """golden/b08: what goes out as money leaves no balance."""
    await a_month(world, 30)
    await world.turn("2024-04-01")
    [invoice] = await invoices(world)
    await pay(world, invoice)
    made = await credit(world, ordered(invoice, "charge"), 3000, refund_amount_cents=3000)
    assert (made["refund_amount_cents"], made["total_amount_cents"], made["balance_amount_cents"]) == (
        3000,
        3000,
        0,
    )
    await audit(world)


async def test_a_part_of_a_fee_with_a_coupon_and_two_taxes(world: World) -> None:
    """credit_note_spec: a plan's coupon of 250.00 off 399.00; of that fee 262.60 are 98.06 and 19.61 of tax."""
    await world.turn("2022-12-19T12:00")
    await a_tax(world, "10", "vat")
    await a_tax(world, "10", "extra", applied=False)
    await world.a_plan(code="one", amount_cents=17_900, pay_in_advance=True)
    await world.a_plan(code="two", amount_cents=39_900, pay_in_advance=True, tax_codes=["vat", "extra"])
    await world.a_customer()
    for plan in ("one", "two"):
        await start(world, "2022-12-19T12:00", plan, plan, billing_time="anniversary")
    await world.turn("2023-08-29")
    await a_coupon(world, amount_cents=25_000, frequency="forever", applies_to={"plan_codes": ["two"]})
    await world.turn("2023-10-19T01:00")
    invoice = (await invoices(world))[-1]
    wanted: Bill = {"fees": 57_800, "coupons": 25_000, "taxes": 4770, "total": 37_570}
    assert bill(invoice, wanted) == wanted
    assert Decimal(str(invoice["taxes_rate"])) == Decimal("14.54268")
    await pay(world, invoice, 1200)
    fee = next(one for one in invoice["fees"] if one["amount_cents"] == 39_900)
    both = [{"fee_id": one["lago_id"], "amount_cents": one["amount_cents"]} for one in invoice["fees"]]
    part = [{"fee_id": fee["lago_id"], "amount_cents": 26_260}]
    names = (
        "taxes_amount_cents", "sub_total_excluding_taxes_amount_cents", "max_creditable_amount_cents",
        "max_refundable_amount_cents", "coupons_adjustment_amount_cents",
    )  # fmt: skip
    shown = []
    for items in (both, part):
        body = {"credit_note": {"invoice_id": invoice["lago_id"], "items": items}}
        estimate = (await world.post("/core/api/v1/credit_notes/estimate", body))["estimated_credit_note"]
        shown.append([estimate[name] for name in names])
    assert shown == [[4770, 32_800, 37_570, 1200, 25_000], [1961, 9806, 11_767, 1200, 16_454]]
    await audit(world)


async def test_the_notes_of_an_invoice_come_to_the_invoice(world: World) -> None:
    """credit_note_spec: two fees of 68.33 with 20 %: 82.00 comes back of the one and 81.99 of the other."""
    await world.turn("2024-03-01")
    await a_tax(world, "20")
    await world.a_customer()
    for code in ("one", "two"):
        add_on = {"code": code, "name": code, "amount_cents": 6833, "amount_currency": "USD"}
        await world.post("/core/api/v1/add_ons", {"add_on": add_on})
    fees = [{"add_on_code": "one"}, {"add_on_code": "two"}]
    body = {"invoice": {"external_customer_id": "acme", "currency": "USD", "fees": fees}}
    await world.post("/core/api/v1/invoices", body)
    [invoice] = await invoices(world)
    assert bill(invoice, {"taxes": 0, "total": 0}) == {"taxes": 2733, "total": 16_399}
    await pay(world, invoice)
    first = await credit(world, invoice, 6833, 0, refund_amount_cents=8200)
    second = await credit(world, invoice, 0, 6833, refund_amount_cents=8199)
    assert [one["taxes_amount_cents"] for one in (first, second)] == [1367, 1366]
    assert await credited(world) == [8200, 8199]
    await audit(world)


async def test_notes_of_fees_with_a_coupon_come_to_the_invoice(world: World) -> None:
    """credit_note_spec: 19.99, 68.33 and 200.33 less 10.00 with 20 % are 334.38; notes of 23.16, 79.15 and 232.07."""
    await world.turn("2022-12-19T12:00")
    await a_tax(world, "20")
    await world.a_metric(code="a")
    await world.a_metric(code="b")
    charges = [standard("1", "a", min_amount_cents=6833), standard("1", "b", min_amount_cents=20_033)]
    await world.a_plan(amount_cents=1999, charges=charges)
    await world.a_customer()
    await start(world, "2022-12-19T12:00", billing_time="anniversary")
    await world.turn("2023-09-20")
    await a_coupon(world, amount_cents=1000, frequency="forever")
    await world.turn("2023-10-19T01:00")
    invoice = (await invoices(world))[-1]
    assert invoice["total_amount_cents"] == 33_438
    found = []
    for amount in (1999, 6833, 20_033):
        [fee] = [one for one in invoice["fees"] if one["amount_cents"] == amount]
        item = {"fee_id": fee["lago_id"], "amount_cents": amount}
        body = {"credit_note": {"invoice_id": invoice["lago_id"], "items": [item]}}
        estimate = (await world.post("/core/api/v1/credit_notes/estimate", body))["estimated_credit_note"]
        total = estimate["max_creditable_amount_cents"]
        made = {**body["credit_note"], "reason": "other", "credit_amount_cents": total}
        await world.post("/core/api/v1/credit_notes", {"credit_note": made})
        found.append(total)
    assert found == [2316, 7915, 23_207]
    await audit(world)


# Drafts.


@pytest.mark.parametrize(("price", "used", "draft", "final"), [("3", 2, 720, 294), ("1", 1, 120, 0)])
async def test_the_note_of_an_end_waits_for_drafts(
    world: World, price: str, used: int, draft: int, final: int
) -> None:
    """invoices/invoices_spec: 17 days of 10.00 with 20 % are 6.58; 11 come back as 4.26 when the drafts are final."""
    await world.turn("2022-12-15")
    await a_tax(world, "20")
    await world.a_metric(how="count_agg")
    await world.a_plan(amount_cents=1000, pay_in_advance=True, charges=[standard(price)])
    await world.a_customer()
    await world.call(
        "POST",
        "/core/api/v1/customers",
        {"customer": {"external_id": "acme", "billing_configuration": {"invoice_grace_period": 3}}},
    )
    await start(world, "2022-12-15")
    await assert_bills(world, [{"status": "draft", "total": 658}])
    for _ in range(used):
        await world.at("2022-12-17").use("acme")
    await end(world, "2022-12-20T01:00")
    assert (await invoices(world))[-1]["total_amount_cents"] == draft
    await world.turn("2022-12-24")
    assert [one["total_amount_cents"] for one in await invoices(world)] == [658, final]
    assert [one["credit_amount_cents"] for one in await notes(world)] == [426]
    await audit(world)
