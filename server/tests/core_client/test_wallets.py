"""Wallets and what moves their money, through the published client: by id, and by customer and code."""

import pytest
from lago_python_client.models.customer import Customer
from lago_python_client.models.wallet import (
    AppliesTo,
    RecurringTransactionRule,
    RecurringTransactionRuleList,
    Wallet,
)
from lago_python_client.models.wallet_transaction import WalletTransaction

from core_client.shop import Shop, children, echoes, listed, refused, shows

pytestmark = pytest.mark.database

RULE = RecurringTransactionRule(
    trigger="interval",
    interval="monthly",
    method="target",
    target_ongoing_balance="200.0",
    threshold_credits="0.0",
    started_at="2026-02-01T00:00:00Z",
    transaction_name="Monthly",
    transaction_metadata=[{"key": "why", "value": "monthly"}],
    ignore_paid_top_up_limits=True,
)
PREPAID = Wallet(
    external_customer_id="acme",
    rate_amount="1.5",
    name="Prepaid",
    code="prepaid",
    priority=5,
    paid_credits="0.0",
    granted_credits="10.0",
    currency="USD",
    expiration_at="2028-07-07T23:59:59Z",
    recurring_transaction_rules=RecurringTransactionRuleList(__root__=[RULE]),
    transaction_name="First",
    transaction_metadata=[{"key": "a", "value": "b"}],
    applies_to=AppliesTo(fee_types=["charge"], billable_metric_codes=["llm_tokens"]),
    invoice_requires_successful_payment=False,
    paid_top_up_min_amount_cents=500,
    paid_top_up_max_amount_cents=100_000,
    metadata={"team": "growth"},
)
PARTS = ("recurring_transaction_rules",)


@pytest.fixture
def acme(shop: Shop) -> str:
    shop.lago.customers.create(Customer(external_id="acme", currency="USD"))
    return "acme"


def the_wallet(made: object, wanted: Wallet) -> None:
    echoes(made, wanted, but=PARTS)
    shows(made, status="active", balance_cents=1500, credits_balance="10.0", consumed_credits="0.0")
    [rule] = made.recurring_transaction_rules.__root__
    echoes(rule, RULE)
    shows(rule, status="active")


def test_wallets(shop: Shop, acme: str) -> None:
    wallets = shop.lago.wallets
    made = wallets.create(PREPAID)
    the_wallet(made, PREPAID)
    assert wallets.find(made.lago_id) == made
    assert listed(wallets.find_all({"external_customer_id": acme}), "wallets") == [made]
    assert children(shop, shop.lago.customer_wallets, acme) == [made]
    changed = wallets.update(Wallet(name="Other", priority=7), made.lago_id)
    shows(changed, name="Other", priority=7, rate_amount="1.5", status="active")
    ended = wallets.destroy(made.lago_id)
    shows(ended, lago_id=made.lago_id, status="terminated", balance_cents=0)
    with refused(404, "wallet_not_found"):
        wallets.find("019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0f")


def test_wallets_of_a_customer_by_code(shop: Shop, acme: str) -> None:
    wallets = shop.lago.customers.wallets
    wanted = PREPAID.copy(update={"external_customer_id": None})
    made = wallets.create(acme, wanted)
    the_wallet(made, wanted)
    assert wallets.find(acme, "prepaid") == made
    assert listed(wallets.find_all(acme), "wallets") == [made]
    shows(wallets.update(acme, "prepaid", Wallet(name="Other")), name="Other", lago_id=made.lago_id)
    shows(wallets.destroy(acme, "prepaid"), status="terminated", lago_id=made.lago_id)


def test_metadata_of_a_wallet(shop: Shop, acme: str) -> None:
    wallets = shop.lago.wallets
    id = wallets.create(PREPAID).lago_id
    assert wallets.merge_metadata(id, {"more": None}) == {"team": "growth", "more": None}
    assert wallets.delete_metadata_key(id, "more") == {"team": "growth"}
    assert wallets.replace_metadata(id, {"only": "this"}) == {"only": "this"}
    assert not wallets.delete_all_metadata(id)
    by_code = shop.lago.customers.wallets.metadata
    assert by_code.replace(acme, "prepaid", {"a": "1", "b": "2"}) == {"a": "1", "b": "2"}
    assert by_code.merge(acme, "prepaid", {"b": "3"}) == {"a": "1", "b": "3"}
    assert by_code.delete_key(acme, "prepaid", "a") == {"b": "3"}
    assert not by_code.delete_all(acme, "prepaid")
    assert not wallets.find(id).metadata


def test_wallet_transactions(shop: Shop, acme: str) -> None:
    id = shop.lago.wallets.create(PREPAID).lago_id
    transactions = shop.lago.wallet_transactions
    wanted = WalletTransaction(
        wallet_id=id,
        paid_credits="20.0",
        granted_credits="5.0",
        name="Top-up",
        metadata=[{"key": "a", "value": "b"}],
        invoice_requires_successful_payment=False,
        ignore_paid_top_up_limits=True,
    )
    paid, granted = transactions.create(wanted)["wallet_transactions"]
    shows(
        paid, credit_amount="20.0", amount="30.0", transaction_status="purchased", transaction_type="inbound"
    )
    shows(paid, lago_wallet_id=id, name="Top-up", metadata=wanted.metadata, source="manual")
    shows(granted, credit_amount="5.0", amount="7.5", transaction_status="granted", status="settled")
    [voided] = transactions.create(WalletTransaction(wallet_id=id, voided_credits="4.0"))[
        "wallet_transactions"
    ]
    shows(
        voided,
        credit_amount="4.0",
        transaction_status="voided",
        transaction_type="outbound",
        status="settled",
    )
    found = listed(transactions.find_all(id, {"per_page": 20}), "wallet_transactions")
    assert [one.credit_amount for one in found] == ["4.0", "5.0", "20.0", "10.0"]
    [granted_before] = [one for one in found if one.credit_amount == "10.0"]
    shows(granted_before, name="First", metadata=PREPAID.transaction_metadata)
    [only] = listed(
        transactions.find_all(id, {"transaction_type": "outbound", "status": "settled"}),
        "wallet_transactions",
    )
    shows(only, lago_id=voided.lago_id)


def test_which_top_up_paid_for_what(shop: Shop, acme: str) -> None:
    id = shop.lago.wallets.create(PREPAID).lago_id
    transactions = shop.lago.wallet_transactions
    [given] = listed(transactions.find_all(id), "wallet_transactions")
    [voided] = transactions.create(WalletTransaction(wallet_id=id, voided_credits="4.0"))[
        "wallet_transactions"
    ]
    [use] = listed(transactions.consumptions(given.lago_id), "wallet_transaction_consumptions")
    shows(use, amount_cents=600, credit_amount="4.0")
    shows(use.wallet_transaction, lago_id=voided.lago_id)
    [source] = listed(transactions.fundings(voided.lago_id), "wallet_transaction_fundings")
    shows(source, amount_cents=600, credit_amount="4.0")
    shows(source.wallet_transaction, lago_id=given.lago_id)
