"""Credits set aside for who may be cut off: whatever else happens meanwhile, what was promised is there."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core.ids import new_id
from nozle_server.credits import giving, setting_aside
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Account, AccountKind, EntryType, GrantSource, Hold
from nozle_server.credits.setting_aside import Promise
from nozle_server.credits.spending import Spending, deduct

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LASTS = timedelta(minutes=12)


def a_book(amount: Decimal, expires_at: datetime | None = None) -> Book:
    account = Account(new_id(), new_id(), new_id(), AccountKind.CREDITS, "credits", *[ZERO] * 10, 0, 0)
    book = Book(account, timezone="UTC")
    if amount:
        giving.give(book, giving.a_grant(amount, GrantSource.MANUAL, NOW, expires_at=expires_at), NOW)
    return book


def a_promise(amount: Decimal, now: datetime = NOW) -> Promise:
    return Promise("chat", amount, now + LASTS, now + 2 * LASTS)


@pytest.mark.parametrize(("there_is", "held"), [(10, 5), (5, 5), (3, 3), (0, None)])
def test_as_much_is_held_as_there_is(there_is: int, held: int | None) -> None:
    made = setting_aside.set_aside(a_book(Decimal(there_is)), a_promise(Decimal(5)), NOW)
    assert (None if made is None else made.amount) == held


def test_a_hold_stays_while_it_lasts_long_enough_and_nothing_was_spent_of_it() -> None:
    book = a_book(Decimal(10))
    held = setting_aside.set_aside(book, a_promise(Decimal(5)), NOW)
    assert held is not None

    def stands(amount: int, spent: int, now: datetime) -> bool:
        return setting_aside.stands(book, held.id, Decimal(spent), a_promise(Decimal(amount), now), now)

    assert stands(5, 0, NOW + LASTS)
    assert not stands(5, 0, NOW + LASTS + timedelta(seconds=1))
    assert not stands(5, 1, NOW)
    assert not stands(4, 0, NOW)
    assert not setting_aside.stands(book, held.id, ZERO, None, NOW)
    assert not stands(5, 0, NOW + 2 * LASTS)


amounts = st.decimals("0.01", 20, places=2)
steps = st.one_of(
    st.tuples(st.just("renew"), amounts),
    st.tuples(st.just("give away"), amounts),
    st.tuples(st.just("deduct"), amounts),
    st.tuples(st.just("wait"), st.integers(1, 20).map(Decimal)),
)


@given(
    granted=st.decimals(0, 60, places=2), grant_lasts=st.integers(1, 90), story=st.lists(steps, max_size=40)
)
def test_what_was_promised_is_covered_whatever_happens_meanwhile(
    granted: Decimal, grant_lasts: int, story: list[tuple[str, Decimal]]
) -> None:
    """A replica gives away what it was promised while the promise lasts; others spend, and the grant may expire: what it
    gave away is taken to the last digit, there is one hold at a time, and nothing is lost, made, or below zero."""
    book = a_book(granted, NOW + timedelta(minutes=grant_lasts))
    now, held, given_away, until = NOW, None, ZERO, NOW
    for deed, amount in story:
        if deed == "wait":
            now += timedelta(minutes=int(amount))
        elif deed == "deduct":
            deduct(book, Spending(amount), now)
        elif deed == "give away":
            if held is not None and now < until and given_away + amount <= held.amount:
                given_away += amount
        else:
            in_time = now < until
            held = _renew(book, held, given_away, amount, now, in_time=in_time)
            given_away, until = ZERO, now + LASTS
        book.advance(now)
        assert len(book.holds) <= 1
        assert book.balance >= 0
        totals = book.totals
        out = totals[EntryType.DEDUCT] + totals[EntryType.EXPIRE] + totals[EntryType.HOLD]
        assert book.balance + out == granted


def _renew(
    book: Book, held: Hold | None, spent: Decimal, amount: Decimal, now: datetime, *, in_time: bool
) -> Hold | None:
    promise = a_promise(amount, now)
    if held is not None:
        if setting_aside.stands(book, held.id, spent, promise, now):
            return held
        taken = setting_aside.take(book, held.id, "chat", spent, now)
        assert taken.settled + taken.uncovered == spent
        assert not (in_time and taken.uncovered)
    return setting_aside.set_aside(book, promise, now)
