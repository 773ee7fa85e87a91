"""Hold, then settle: what happens to the grants that were held."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from nozle_server.core.ids import new_id
from nozle_server.credits import giving, holding
from nozle_server.credits.book import Book
from nozle_server.credits.holding import HoldEnded, Holding, Settling
from nozle_server.credits.model import ZERO, Account, AccountKind, GrantSource, Hold
from nozle_server.credits.spending import Spending, deduct

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_book(*grants: tuple[int, datetime | None]) -> Book:
    """A customer's book with grants of these amounts and expiries."""
    account = Account(new_id(), new_id(), new_id(), AccountKind.CREDITS, "credits", *[ZERO] * 10, 0, 0)
    book = Book(account, timezone="UTC")
    for amount, expires_at in grants:
        giving.give(
            book, giving.a_grant(Decimal(amount), GrantSource.MANUAL, NOW, expires_at=expires_at), NOW
        )
    return book


def a_hold(book: Book, amount: int, *, lasts: timedelta = 3 * HOUR) -> Hold:
    held = holding.hold(book, Holding(Spending(Decimal(amount), "chat"), NOW + lasts), NOW).hold
    assert held is not None
    return held


def history(book: Book) -> list[tuple[str, int]]:
    return [(entry.type, int(entry.amount)) for entry in book.changes.entries]


def test_what_is_held_outlives_its_grant_and_the_rest_is_written_off() -> None:
    """Credits that expire while work is under way pay for it; what the work did not need is gone with the others."""
    book = a_book((10, NOW + HOUR))
    held = a_hold(book, 6)
    settled = holding.settle(book, Settling(held.id, Decimal(4)), NOW + 2 * HOUR)
    assert (settled.settled, settled.uncovered, settled.remaining) == (4, 0, 0)
    assert history(book) == [
        ("grant", 10),
        ("hold", -6),
        ("expire", -4),
        ("release", 6),
        ("deduct", -4),
        ("expire", -2),
    ]


def test_what_is_released_of_a_grant_that_is_over_is_written_off() -> None:
    book = a_book((10, NOW + HOUR))
    held = a_hold(book, 6)
    assert holding.release(book, held.id, NOW + 2 * HOUR).remaining == 0
    assert history(book)[2:] == [("expire", -4), ("release", 6), ("expire", -6)]


@pytest.mark.parametrize(
    ("used", "limit", "settled", "uncovered", "remaining"),
    [
        (0, 0, 0, 0, 10),
        (5, 0, 5, 0, 5),
        (6, 0, 6, 0, 4),
        (8, 0, 8, 0, 2),
        (10, 0, 10, 0, 0),
        (15, 0, 10, 0, 0),
        (15, 3, 13, 3, 0),
        (15, 5, 15, 5, 0),
        (15, 100, 15, 5, 0),
    ],
)
def test_settling_takes_hold_then_balance_then_up_to_the_limit(
    used: int, limit: int, settled: int, uncovered: int, remaining: int
) -> None:
    """Decision 15."""
    book = a_book((10, None))
    held = a_hold(book, 6)
    told = holding.settle(book, Settling(held.id, Decimal(used), Decimal(limit)), NOW)
    assert (told.settled, told.uncovered, told.remaining) == (settled, uncovered, remaining)
    assert book.receivable == uncovered
    assert book.balance == remaining


def test_a_later_grant_pays_what_is_owed_first_the_oldest_first() -> None:
    book = a_book((2, None))
    one, two = a_hold(book, 1), a_hold(book, 1)
    for held, used in ((one, 4), (two, 8)):
        holding.settle(book, Settling(held.id, Decimal(used), Decimal(100)), NOW)
    assert [owed.open for owed in book.receivables] == [3, 7]
    giving.give(book, giving.a_grant(Decimal(5), GrantSource.TOP_UP, NOW), NOW)
    assert (book.receivable, book.balance, [owed.open for owed in book.receivables]) == (5, 0, [5])
    giving.give(book, giving.a_grant(Decimal(6), GrantSource.TOP_UP, NOW), NOW)
    assert (book.receivable, book.balance, book.receivables) == (0, 1, [])
    paying = [(entry.hold_id, entry.feature, int(entry.amount)) for entry in book.changes.entries]
    assert [(one.id, "chat", -3), (two.id, "chat", -2)] == paying[-4:-2]
    assert paying[-1] == (two.id, "chat", -5)


def test_a_hold_ends_once_and_at_the_very_instant_of_its_end() -> None:
    book = a_book((10, None))
    one, two = a_hold(book, 4), a_hold(book, 5, lasts=HOUR)
    assert deduct(book, Spending(Decimal(1)), NOW).remaining == 0
    holding.settle(book, Settling(one.id, Decimal(1)), NOW)
    for deed in (
        lambda: holding.settle(book, Settling(one.id, Decimal(1)), NOW),
        lambda: holding.release(book, one.id, NOW),
        lambda: holding.settle(book, Settling(two.id, Decimal(1)), NOW + HOUR),
        lambda: holding.release(book, two.id, NOW + HOUR),
    ):
        with pytest.raises(HoldEnded):
            deed()
    assert (book.balance, book.holds) == (10 - 1 - 1, {})
