"""Which wallet pays for what, as Lago: priority, then age; limits; never more than is there or is owed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.wallets.allocation import plan_usage, plan_uses
from nozle_server.wallets.conversion import spendable_cents
from nozle_server.wallets.model import Wallet, WalletLine

from .conftest import a_wallet

CHAT, MAIL = UUID(int=101), UUID(int=102)


def uses(wallets: Sequence[Wallet], lines: Sequence[WalletLine], amount: int) -> list[tuple[str, int]]:
    return [(wallet.code, cents) for wallet, cents in plan_uses(wallets, lines, amount)]


def test_wallets_pay_by_priority_then_by_age() -> None:
    wallets = [a_wallet(3), a_wallet(1, balance="4"), a_wallet(2, balance="3", priority=1)]
    assert uses(wallets, [WalletLine("subscription", None, 1200)], 1200) == [
        ("w2", 300),
        ("w1", 400),
        ("w3", 500),
    ]


@pytest.mark.parametrize(
    ("limits", "cents"),
    [
        ({}, 650),
        ({"fee_types": ["charge"]}, 300),
        ({"metrics": [CHAT]}, 200),
        ({"fee_types": ["subscription"], "metrics": [MAIL]}, 400),
        ({"fee_types": ["commitment"]}, 50),
    ],
)
def test_a_limited_wallet_pays_only_for_what_it_may(limits: dict[str, Any], cents: int) -> None:
    """By the kind of line, or by the metric of a charge; one that has both limits may pay for either."""
    lines = [
        WalletLine("subscription", None, 300),
        WalletLine("charge", CHAT, 200),
        WalletLine("charge", MAIL, 100),
        WalletLine("commitment", None, 50),
    ]
    assert uses([a_wallet(balance="100", **limits)], lines, 650) == [("w1", cents)]


def test_the_amount_due_binds_where_credit_notes_paid_a_part() -> None:
    assert uses([a_wallet()], [WalletLine("charge", CHAT, 900)], 400) == [("w1", 400)]
    assert uses([a_wallet()], [WalletLine("charge", CHAT, 900)], 0) == []


def test_a_part_of_a_minor_unit_pays_nothing() -> None:
    line = [WalletLine("charge", CHAT, 900)]
    assert uses([a_wallet(balance="0.005")], line, 900) == []
    assert uses([a_wallet(balance="1.999")], line, 900) == [("w1", 199)]


def test_what_lines_miss_by_rounding_is_paid_too() -> None:
    """Taxes of an invoice may be a minor unit more than those of its lines; anything more is not theirs."""
    lines = [WalletLine("charge", CHAT, 100), WalletLine("charge", MAIL, 50)]
    assert uses([a_wallet()], lines, 152) == [("w1", 152)]
    assert uses([a_wallet()], lines, 153) == [("w1", 150)]


def test_ongoing_usage_is_carried_like_an_invoice_and_the_rest_by_the_last() -> None:
    wallets = [a_wallet(1, balance="1", metrics=[CHAT]), a_wallet(2, balance="2")]
    lines = [WalletLine("charge", CHAT, 500), WalletLine("charge", MAIL, 100)]
    assert plan_usage(wallets, lines) == {UUID(int=1): 100, UUID(int=2): 500}
    assert plan_usage(wallets[:1], lines) == {UUID(int=1): 500}
    assert plan_usage([], lines) == {}


LINES = st.lists(
    st.builds(
        WalletLine,
        st.sampled_from(["charge", "subscription", "commitment", "add_on"]),
        st.sampled_from([None, CHAT, MAIL]),
        st.integers(-50, 1000),
    ),
    max_size=6,
)
WALLETS = st.lists(
    st.tuples(
        st.decimals("0", "20", places=4),
        st.integers(1, 5),
        st.sets(st.sampled_from(["charge", "subscription", "commitment"])),
        st.sets(st.sampled_from([CHAT, MAIL])),
    ),
    max_size=5,
).map(
    lambda found: [
        a_wallet(n, balance=str(balance), priority=priority, fee_types=sorted(types), metrics=sorted(metrics))
        for n, (balance, priority, types, metrics) in enumerate(found, 1)
    ]
)


@given(WALLETS, LINES, st.integers(0, 3000))
def test_no_wallet_overdraws_and_no_invoice_is_overpaid(
    wallets: list[Wallet], lines: list[WalletLine], amount: int
) -> None:
    found = plan_uses(wallets, lines, amount)
    assert sum(cents for _, cents in found) <= amount
    assert len({wallet.id for wallet, _ in found}) == len(found)
    groups = len({(line.kind, line.metric_id) for line in lines})
    for wallet, cents in found:
        assert 0 < cents <= spendable_cents(wallet.balance, "USD")
        assert cents <= sum(max(0, one.amount_cents) for one in lines if wallet.pays_for(one)) + groups


@given(WALLETS, LINES)
def test_usage_is_carried_once_and_in_full(wallets: list[Wallet], lines: list[WalletLine]) -> None:
    lines = [replace(line, amount_cents=abs(line.amount_cents)) for line in lines]
    carried = plan_usage(wallets, lines)
    payable = sum(line.amount_cents for line in lines if any(one.pays_for(line) for one in wallets))
    assert sum(carried.values()) == payable
