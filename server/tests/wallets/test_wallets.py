"""Wallets through Core's endpoints, as Lago's clients write them."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from world import JsonObject, World, audit

pytestmark = pytest.mark.database

WALLETS = "/core/api/v1/wallets"
TRANSACTIONS = "/core/api/v1/wallet_transactions"


async def move(world: World, wallet: JsonObject, **more: object) -> list[JsonObject]:
    """`POST /wallet_transactions`; the transactions made."""
    body = {"wallet_transaction": {"wallet_id": wallet["lago_id"], **more}}
    made = (await world.post(TRANSACTIONS, body))["wallet_transactions"]
    assert isinstance(made, list)
    return made


async def look(world: World, wallet: JsonObject) -> JsonObject:
    found = (await world.get(f"{WALLETS}/{wallet['lago_id']}"))["wallet"]
    assert isinstance(found, dict)
    return found


async def movements(world: World, wallet: JsonObject, **filters: object) -> list[tuple[str, str, str]]:
    """(what happened, status, amount), newest first."""
    found = await world.get(f"{WALLETS}/{wallet['lago_id']}/wallet_transactions", **filters)
    assert found["meta"]["total_count"] == len(found["wallet_transactions"])
    return [(one["transaction_status"], one["status"], one["amount"]) for one in found["wallet_transactions"]]


async def test_the_life_of_a_wallet(world: World) -> None:
    """Contract 4.12: opened with granted credits, shown by id and by code, changed, terminated; amounts as Lago's text."""
    await world.turn("2026-01-01")
    await world.a_customer()
    made = await world.a_wallet(name="Pre paid", rate_amount="1.5", granted_credits="10", priority=7)
    expected = {
        "external_customer_id": "acme",
        "status": "active",
        "currency": "USD",
        "name": "Pre paid",
        "code": "pre_paid",
        "priority": 7,
        "rate_amount": "1.5",
        "credits_balance": "10.0",
        "balance_cents": 1500,
        "consumed_credits": "0.0",
        "consumed_amount_cents": 0,
        "ongoing_balance_cents": 1500,
        "ongoing_usage_balance_cents": 0,
        "credits_ongoing_balance": "10.0",
        "credits_ongoing_usage_balance": "0.0",
        "created_at": "2026-01-01T00:00:00Z",
        "expiration_at": None,
        "last_balance_sync_at": "2026-01-01T00:00:00Z",
        "last_consumed_credit_at": None,
        "terminated_at": None,
        "invoice_requires_successful_payment": False,
        "paid_top_up_min_amount_cents": None,
        "paid_top_up_max_amount_cents": None,
        "metadata": None,
        "recurring_transaction_rules": [],
        "applies_to": {"fee_types": [], "billable_metric_codes": []},
    }
    assert {name: made[name] for name in expected} == expected
    assert made["lago_id"] == made["nozle_id"]
    path = f"{WALLETS}/{made['lago_id']}"
    by_code = "/core/api/v1/customers/acme/wallets"
    assert (await world.get(path))["wallet"] == made
    assert (await world.get(f"{by_code}/pre_paid"))["wallet"] == made
    for found in (await world.get(WALLETS, external_customer_id="acme"), await world.get(by_code)):
        assert found["wallets"] == [made]
        assert found["meta"]["total_count"] == 1
    assert (await world.get(WALLETS, currency="EUR"))["wallets"] == []
    changed = (
        await world.call("PUT", f"{by_code}/pre_paid", {"wallet": {"priority": 1, "metadata": {"team": "a"}}})
    ).json["wallet"]
    assert changed == {**made, "priority": 1, "metadata": {"team": "a"}}
    ended = (await world.at("2026-01-02").call("DELETE", path)).json["wallet"]
    assert (ended["status"], ended["terminated_at"], ended["balance_cents"]) == (
        "terminated",
        "2026-01-02T00:00:00Z",
        0,
    )
    assert (await world.call("DELETE", path)).json["wallet"] == ended
    again = await world.a_wallet(name="Pre paid")
    assert again["code"] == "pre_paid"
    assert (await world.get(f"{by_code}/pre_paid"))["wallet"] == again
    await audit(world)


async def test_granted_paid_and_voided_credits(world: World) -> None:
    """Granted settle at once; paid wait for their invoice of type `credit`; voided leave; each its transaction."""
    await world.turn("2026-01-01")
    await world.a_customer()
    wallet = await world.a_wallet(rate_amount="2")
    note = [{"key": "why", "value": "promise"}]
    paid, granted, voided = await move(
        world,
        wallet,
        paid_credits="10",
        granted_credits="5",
        voided_credits="1.5",
        name="January",
        metadata=note,
    )
    assert (paid["status"], paid["transaction_status"], paid["transaction_type"]) == (
        "pending",
        "purchased",
        "inbound",
    )
    assert (paid["amount"], paid["credit_amount"], paid["settled_at"]) == ("20.0", "10.0", None)
    assert (granted["status"], granted["transaction_status"], granted["remaining_amount_cents"]) == (
        "settled",
        "granted",
        1000,
    )
    assert (voided["status"], voided["transaction_status"], voided["transaction_type"]) == (
        "settled",
        "voided",
        "outbound",
    )
    assert (voided["amount"], voided["credit_amount"], voided["remaining_amount_cents"]) == (
        "3.0",
        "1.5",
        None,
    )
    assert {one["name"] for one in (paid, granted, voided)} == {"January"}
    assert paid["metadata"] == granted["metadata"] == note
    assert (paid["source"], paid["priority"]) == ("manual", 50)
    found = await look(world, wallet)
    assert (found["balance_cents"], found["credits_balance"]) == (700, "3.5")
    assert (found["consumed_credits"], found["consumed_amount_cents"]) == ("1.5", 300)
    assert (await world.get(f"{TRANSACTIONS}/{paid['lago_id']}"))["wallet_transaction"] == paid
    rows = await world.fetch("select * from invoices where org_id = $1")
    assert [(row["id"], row["invoice_type"], row["total_amount_cents"]) for row in rows] == [
        (type(rows[0]["id"])(paid["lago_invoice_id"]), "credit", 2000)
    ]
    lines = await world.fetch("select * from invoice_lines where org_id = $1")
    assert [(line["kind"], line["description"], line["taxes_amount_cents"]) for line in lines] == [
        ("credit", "January", 0)
    ]
    await audit(world)


async def test_transactions_are_listed_newest_first_and_filtered(world: World) -> None:
    await world.a_customer()
    wallet = await world.a_wallet()
    await move(world, wallet, granted_credits="5")
    await move(world, wallet, voided_credits="2")
    await move(world, wallet, paid_credits="3")
    every = [
        ("purchased", "pending", "3.0"),
        ("voided", "settled", "2.0"),
        ("granted", "settled", "5.0"),
    ]
    assert await movements(world, wallet) == every
    assert await movements(world, wallet, status="pending") == every[:1]
    assert await movements(world, wallet, transaction_type="outbound") == every[1:2]
    assert await movements(world, wallet, transaction_status="granted") == every[2:]
    wrong = await world.call("GET", f"{WALLETS}/{wallet['lago_id']}/wallet_transactions?status=none")
    assert wrong.status == 422


async def test_credits_are_exact_at_any_rate(world: World) -> None:
    """A third of a cent a credit: the wallet keeps every one of them, shows whole cents, and can be emptied."""
    await world.a_customer()
    wallet = await world.a_wallet(rate_amount="0.00333", granted_credits="10")
    assert (wallet["balance_cents"], wallet["credits_balance"]) == (3, "10.0")
    [void] = await move(world, wallet, voided_credits="4")
    assert void["amount"] == "0.01332"
    found = await look(world, wallet)
    assert (found["balance_cents"], found["credits_balance"]) == (1, "6.0")
    await move(world, wallet, voided_credits="6")
    assert (await look(world, wallet))["credits_balance"] == "0.0"
    thirds = await world.a_wallet(rate_amount="3", paid_credits="1.11111")
    [bought] = await movements(world, thirds)
    assert bought == ("purchased", "pending", "3.33")
    await audit(world)


@pytest.mark.parametrize(
    ("sent", "details"),
    [
        ({"external_customer_id": "nobody"}, {"customer": ["customer_not_found"]}),
        ({"external_customer_id": None}, {"customer": ["customer_not_found"]}),
        ({"rate_amount": "0"}, {"rate_amount": ["value_is_out_of_range"]}),
        ({"rate_amount": "-1"}, {"rate_amount": ["value_is_out_of_range"]}),
        ({"rate_amount": "a"}, {"rate_amount": ["invalid_amount"]}),
        ({"rate_amount": None}, {"rate_amount": ["value_is_mandatory"]}),
        ({"currency": "XXX"}, {"currency": ["value_is_invalid"]}),
        ({"currency": "EUR"}, {"currency": ["currencies_does_not_match"]}),
        ({"priority": 0}, {"priority": ["value_is_invalid"]}),
        ({"priority": 51}, {"priority": ["value_is_invalid"]}),
        ({"paid_credits": "a"}, {"paid_credits": ["invalid_paid_credits", "invalid_amount"]}),
        ({"granted_credits": -1}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        ({"granted_credits": True}, {"granted_credits": ["invalid_granted_credits", "invalid_amount"]}),
        (
            {"granted_credits": "999999999999999999", "rate_amount": "2"},
            {"granted_credits": ["invalid_granted_credits", "invalid_amount"]},
        ),
        ({"granted_credits": "0.001"}, {"granted_credits": ["amount_rounds_to_zero"]}),
        ({"paid_credits": "0.001"}, {"paid_credits": ["amount_rounds_to_zero"]}),
        ({"expiration_at": "2025-12-31T00:00:00Z"}, {"expiration_at": ["invalid_date"]}),
        ({"expiration_at": "2026-01-01"}, {"expiration_at": ["invalid_date"]}),
        ({"expiration_at": "soon"}, {"expiration_at": ["invalid_date"]}),
        ({"paid_top_up_min_amount_cents": 0}, {"paid_top_up_min_amount_cents": ["value_is_out_of_range"]}),
        (
            {"paid_top_up_min_amount_cents": 2, "paid_top_up_max_amount_cents": 1},
            {"paid_top_up_max_amount_cents": ["must_be_greater_than_or_equal_min"]},
        ),
        (
            {"paid_credits": "1", "paid_top_up_min_amount_cents": 101},
            {"paid_credits": ["amount_below_minimum"]},
        ),
        (
            {"paid_credits": "1", "paid_top_up_max_amount_cents": 99},
            {"paid_credits": ["amount_above_maximum"]},
        ),
        ({"applies_to": {"fee_types": ["add_on"]}}, {"applies_to": ["invalid_limitations"]}),
        ({"applies_to": {"billable_metric_codes": ["none"]}}, {"applies_to": ["invalid_limitations"]}),
        (
            {"recurring_transaction_rules": [{"trigger": "interval"}] * 2},
            {"recurring_transaction_rules": ["invalid_number_of_recurring_rules"]},
        ),
        *(
            (
                {"recurring_transaction_rules": [rule]},
                {"recurring_transaction_rules": ["invalid_recurring_rule"]},
            )
            for rule in (
                {},
                {"trigger": "sometimes"},
                {"trigger": "interval"},
                {"trigger": "interval", "interval": "daily"},
                {"trigger": "threshold"},
                {"trigger": "threshold", "threshold_credits": "a"},
                {"trigger": "threshold", "threshold_credits": "1", "method": "target"},
                {
                    "trigger": "threshold",
                    "threshold_credits": "2",
                    "method": "target",
                    "target_ongoing_balance": "1",
                },
                {"trigger": "threshold", "threshold_credits": "1", "paid_credits": "-1"},
                {"trigger": "threshold", "threshold_credits": "1", "paid_credits": "0.001"},
                {"trigger": "interval", "interval": "weekly", "expiration_at": "2025-01-01T00:00:00Z"},
            )
        ),
    ],
)
async def test_what_is_wrong_is_named_and_changes_nothing(
    world: World, sent: dict[str, Any], details: dict[str, list[str]]
) -> None:
    """422 in Core's form, with Lago's codes."""
    await world.turn("2026-01-01")
    await world.a_customer(currency="USD")
    wallet = {"external_customer_id": "acme", "rate_amount": "1", "currency": "USD", **sent}
    answer = await world.call("POST", WALLETS, {"wallet": wallet})
    assert answer.json == {
        "status": 422,
        "error": "Unprocessable Entity",
        "code": "validation_errors",
        "error_details": details,
    }
    for table in ("wallets", "credit_accounts", "due_items", "invoices"):
        assert await world.fetch(f"select 1 from {table} where org_id = $1") == []


@pytest.mark.parametrize(
    ("sent", "details"),
    [
        ({"wallet_id": "none"}, {"wallet_id": ["wallet_not_found"]}),
        (
            {"wallet_id": "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e"},
            {"wallet_id": ["wallet_not_found"]},
        ),
        ({"voided_credits": "5.00001"}, {"voided_credits": ["insufficient_credits"]}),
        ({"voided_credits": "x"}, {"voided_credits": ["invalid_voided_credits", "invalid_amount"]}),
        ({"paid_credits": "0.5"}, {"paid_credits": ["amount_below_minimum"]}),
        ({"granted_credits": "1", "priority": 99}, {"priority": ["value_is_invalid"]}),
        ({"granted_credits": "1", "name": "n" * 256}, {"name": ["value_is_too_long"]}),
        (
            {"granted_credits": "1", "metadata": [{"key": "k", "value": "v"}] * 16},
            {"metadata": ["too_many_keys"]},
        ),
    ],
)
async def test_a_wrong_transaction_is_named_and_changes_nothing(
    world: World, sent: dict[str, Any], details: dict[str, list[str]]
) -> None:
    await world.a_customer()
    wallet = await world.a_wallet(granted_credits="5", paid_top_up_min_amount_cents=100)
    body = {"wallet_transaction": {"wallet_id": wallet["lago_id"], **sent}}
    answer = await world.call("POST", TRANSACTIONS, body)
    assert (answer.status, answer.json["error_details"]) == (422, details)
    assert await movements(world, wallet) == [("granted", "settled", "5.0")]


async def test_limits_of_purchases_can_be_ignored(world: World) -> None:
    await world.a_customer()
    wallet = await world.a_wallet(
        paid_top_up_min_amount_cents=500,
        paid_top_up_max_amount_cents=1000,
        paid_credits="1",
        ignore_paid_top_up_limits_on_creation=True,
    )
    await move(world, wallet, paid_credits="10")
    await move(world, wallet, paid_credits="11", ignore_paid_top_up_limits=True)
    assert [amount for _, _, amount in await movements(world, wallet)] == ["11.0", "10.0", "1.0"]


async def test_the_customer_gets_the_wallets_currency(world: World) -> None:
    """As Lago: a customer without a currency gets it; one that has another is refused; without any there is no wallet."""
    await world.a_customer()
    body: JsonObject = {"wallet": {"external_customer_id": "acme", "rate_amount": "1"}}
    answer = await world.call("POST", WALLETS, body)
    assert answer.json["error_details"] == {"currency": ["value_is_invalid"]}
    yen = await world.a_wallet(currency="JPY", rate_amount="100", granted_credits="2.5")
    assert yen["balance_cents"] == 250
    assert (await world.post(WALLETS, body))["wallet"]["currency"] == "JPY"
    body["wallet"]["currency"] = "USD"
    answer = await world.call("POST", WALLETS, body)
    assert answer.json["error_details"] == {"currency": ["currencies_does_not_match"]}


async def test_codes_are_unique_among_active_wallets_and_these_are_five(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_customer()
    first = await world.a_wallet(code="main")
    taken = await world.call(
        "POST",
        "/core/api/v1/customers/acme/wallets",
        {"wallet": {"rate_amount": "1", "currency": "USD", "code": "main"}},
    )
    assert (taken.status, taken.json["error_details"]) == (422, {"code": ["value_already_exist"]})
    second = await world.a_wallet(code="other")
    taken = await world.call("PUT", f"{WALLETS}/{second['lago_id']}", {"wallet": {"code": "main"}})
    assert (taken.status, taken.json["error_details"]) == (422, {"code": ["value_already_exist"]})
    assert [(await world.a_wallet())["code"] for _ in range(2)] == ["default", "default_1767225600"]
    await world.a_wallet(code="fifth")
    body = {"wallet": {"external_customer_id": "acme", "rate_amount": "1", "code": "sixth"}}
    full = await world.call("POST", WALLETS, body)
    assert full.json["error_details"] == {"customer": ["wallet_limit_reached"]}
    await world.call("DELETE", f"{WALLETS}/{first['lago_id']}")
    assert (await world.a_wallet(code="main"))["code"] == "main"


async def test_what_does_not_exist_is_a_404(world: World, other_world: World) -> None:
    """Also another tenant's, and a transaction asked for what only the other direction has."""
    await world.a_customer()
    wallet = await world.a_wallet(granted_credits="5")
    [void] = await move(world, wallet, voided_credits="1")
    for path, code in (
        (f"{WALLETS}/none", "wallet_not_found"),
        (f"{WALLETS}/none/wallet_transactions", "wallet_not_found"),
        ("/core/api/v1/customers/acme/wallets/none", "wallet_not_found"),
        ("/core/api/v1/customers/nobody/wallets", "customer_not_found"),
        (f"{WALLETS}?external_customer_id=nobody", "customer_not_found"),
        (f"{TRANSACTIONS}/none", "wallet_transaction_not_found"),
        (f"{TRANSACTIONS}/{void['lago_id']}/consumptions", "wallet_transaction_not_found"),
    ):
        answer = await world.call("GET", path)
        assert (answer.status, answer.json["code"]) == (404, code)
    for path in (f"{WALLETS}/{wallet['lago_id']}", f"{TRANSACTIONS}/{void['lago_id']}"):
        assert (await other_world.call("GET", path)).status == 404
        assert (await world.call("GET", path, key=world.publishable)).status == 403


async def test_which_transaction_paid_for_which(world: World) -> None:
    """Given credits go before bought ones, then by priority, then the oldest; both directions tell the same."""
    await world.turn("2026-01-01")
    await world.a_customer()
    wallet = await world.a_wallet()
    [late] = await move(world, wallet, granted_credits="4", name="late")
    [early] = await move(world, wallet, granted_credits="3", priority=1, name="early")
    [void] = await move(world, wallet, voided_credits="5")
    paid = await world.get(f"{TRANSACTIONS}/{void['lago_id']}/fundings")
    assert [
        (one["wallet_transaction"]["name"], one["amount_cents"], one["credit_amount"])
        for one in paid["wallet_transaction_fundings"]
    ] == [("late", 200, "2.0"), ("early", 300, "3.0")]
    assert paid["meta"]["total_count"] == 2
    for inbound, cents, left in ((early, 300, 0), (late, 200, 200)):
        found = await world.get(f"{TRANSACTIONS}/{inbound['lago_id']}/consumptions")
        [one] = found["wallet_transaction_consumptions"]
        assert (one["wallet_transaction"]["lago_id"], one["amount_cents"]) == (void["lago_id"], cents)
        assert one["lago_id"] in [other["lago_id"] for other in paid["wallet_transaction_fundings"]]
        shown = await world.get(f"{TRANSACTIONS}/{inbound['lago_id']}")
        assert shown["wallet_transaction"]["remaining_amount_cents"] == left


async def test_one_key_is_one_top_up(world: World) -> None:
    """M04: the same Idempotency-Key at once gives once; another body under it is a 409."""
    await world.a_customer()
    wallet = await world.a_wallet()
    body = {"wallet_transaction": {"wallet_id": wallet["lago_id"], "granted_credits": "5"}}
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(world.call("POST", TRANSACTIONS, body, headers=headers) for _ in range(5))
    )
    assert len({answer.body for answer in answers}) == 1
    body["wallet_transaction"]["granted_credits"] = "6"
    assert (await world.call("POST", TRANSACTIONS, body, headers=headers)).status == 409
    assert (await look(world, wallet))["balance_cents"] == 500
    await audit(world)


async def test_voids_at_once_take_exactly_what_is_there(world: World) -> None:
    await world.a_customer()
    wallet = await world.a_wallet(granted_credits="10")
    body = {"wallet_transaction": {"wallet_id": wallet["lago_id"], "voided_credits": "3"}}
    answers = await asyncio.gather(*(world.call("POST", TRANSACTIONS, body) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [422] * 5
    assert (await look(world, wallet))["balance_cents"] == 100
    await audit(world)


async def test_credits_of_usage_never_see_a_wallets_money(world: World) -> None:
    """Decision 6: check-and-deduct, balance and transactions are about credits, whatever wallets hold."""
    await world.a_customer()
    wallet = await world.a_wallet(granted_credits="100")
    assert await world.deduct("acme", 1) == (False, 0)
    assert await world.balance("acme") == 0
    assert await world.transactions("acme") == []
    await world.grant("acme", 5)
    assert await world.deduct("acme", 2) == (True, 3)
    assert await world.transactions("acme") == [("grant", 5), ("deduct", 2)]
    assert (await look(world, wallet))["balance_cents"] == 10000
    refund = {"amount": Decimal(1), "source": "refund"}
    assert (await world.call("POST", "/api/v1/credits/acme/grants", refund)).status == 400
    await audit(world)


async def test_an_expired_wallet_ends_and_its_balance_leaves_the_ledger(world: World) -> None:
    """ "When the date is reached, all remaining credits are automatically voided" (Lago's guide); moved, it is the new date."""
    await world.turn("2026-01-01")
    await world.a_customer()
    wallet = await world.a_wallet(granted_credits="10", expiration_at="2026-02-01")
    await world.call(
        "PUT", f"{WALLETS}/{wallet['lago_id']}", {"wallet": {"expiration_at": "2026-03-01T00:00:00Z"}}
    )
    await world.turn("2026-02-15")
    assert (await look(world, wallet))["status"] == "active"
    await world.turn("2026-03-01")
    found = await look(world, wallet)
    assert (found["status"], found["terminated_at"], found["balance_cents"]) == (
        "terminated",
        "2026-03-01T00:00:00Z",
        0,
    )
    body = {"wallet_transaction": {"wallet_id": wallet["lago_id"], "granted_credits": "1"}}
    answer = await world.call("POST", TRANSACTIONS, body)
    assert answer.json["error_details"] == {"wallet_id": ["wallet_is_terminated"]}
    entries = await world.fetch("select type, amount from ledger_entries where org_id = $1 order by sequence")
    assert [tuple(row) for row in entries] == [("grant", 10), ("expire", -10)]
    await audit(world)


async def test_metadata_is_replaced_merged_and_cleared(world: World) -> None:
    """By the wallet's id and by its code alike; null once there is none, and a 404 for a key of none."""
    await world.a_customer()
    wallet = await world.a_wallet(metadata={"a": "1"})
    assert wallet["metadata"] == {"a": "1"}
    for path in (f"{WALLETS}/{wallet['lago_id']}", "/core/api/v1/customers/acme/wallets/default"):
        path += "/metadata"
        for method, where, sent, expected in (
            ("POST", "", {"b": "2"}, {"b": "2"}),
            ("PATCH", "", {"c": None, "d": "4"}, {"b": "2", "c": None, "d": "4"}),
            ("DELETE", "/c", None, {"b": "2", "d": "4"}),
            ("DELETE", "/c", None, {"b": "2", "d": "4"}),
            ("DELETE", "", None, None),
        ):
            body = None if sent is None else {"metadata": sent}
            answer = await world.call(method, path + where, body)
            assert (answer.status, answer.json) == (200, {"metadata": expected})
        missing = await world.call("DELETE", path + "/c")
        assert (missing.status, missing.json["code"]) == (404, "metadata_not_found")
    assert (await look(world, wallet))["metadata"] is None


@pytest.mark.parametrize(
    "metadata", [{"k" * 101: "v"}, {"": "v"}, {"k": "v" * 256}, {"k": 1}, {str(n): "v" for n in range(51)}]
)
async def test_metadata_has_bounds(world: World, metadata: JsonObject) -> None:
    await world.a_customer()
    wallet = await world.a_wallet()
    answer = await world.call("POST", f"{WALLETS}/{wallet['lago_id']}/metadata", {"metadata": metadata})
    assert answer.status == 422
    assert list(answer.json["error_details"]) == ["metadata"]
