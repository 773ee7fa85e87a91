"""What replicas were promised is held, whatever answers are lost, and whatever others want meanwhile."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from nozle_server.core.ids import new_id
from nozle_server.credits import giving
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Account, AccountKind, EntryType, GrantSource
from nozle_server.credits.spending import Spending, deduct
from nozle_server.entitlements.replica_promises import Asked, Renewal, ReplicaHold, Report, renew

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FEATURES = ("a", "b", "c")


def a_book(amount: Decimal) -> Book:
    account = Account(new_id(), new_id(), new_id(), AccountKind.CREDITS, "credits", *[ZERO] * 10, 0, 0)
    book = Book(account, timezone="UTC")
    if amount:
        giving.give(book, giving.a_grant(amount, GrantSource.MANUAL, NOW), NOW)
    return book


@dataclass
class Replica:
    """What a process knows: the last snapshot that it got, and what it gave away under it; and what the server keeps."""

    snapshot_id: UUID | None = None
    promised: dict[str, Decimal] = field(default_factory=dict)
    until: datetime = NOW
    given: dict[str, Decimal] = field(default_factory=dict)
    settled: dict[str, Decimal] = field(default_factory=dict)
    rows: list[ReplicaHold] = field(default_factory=list)

    def restart(self) -> None:
        """All that it knew is gone."""
        self.snapshot_id, self.until = None, NOW
        self.promised, self.given, self.settled = {}, {}, {}

    def give_away(self, feature: str, amount: Decimal, now: datetime) -> None:
        already = self.given.get(feature, ZERO)
        if now < self.until and already + amount <= self.promised.get(feature, ZERO):
            self.given[feature] = already + amount

    def call(
        self, book: Book, wanted: dict[str, Decimal], lasting: timedelta, now: datetime, *, lost: bool
    ) -> Renewal:
        account_id = book.account.id
        asked = Asked(new_id(), wanted, dict.fromkeys(wanted, account_id), lasting)
        report = Report(self.snapshot_id, dict(self.given))
        answer = renew({account_id: book}, self.rows, asked, report, now)
        if now < self.until:
            assert all(not one.uncovered for one in answer.taken.values())
            for feature, one in answer.taken.items():
                self.settled[feature] = self.settled.get(feature, ZERO) + one.settled
            assert {f: n for f, n in self.settled.items() if n} == {f: n for f, n in self.given.items() if n}
        self.rows = list(answer.standing)
        if not lost:
            self.snapshot_id, self.until = asked.snapshot_id, now + lasting
            self.promised = {feature: one.credits for feature, one in answer.promised.items()}
            self.given, self.settled = {}, {}
        return answer

    def check(self, book: Book, now: datetime) -> None:
        held = {one.feature: book.holds[one.hold_id].amount for one in self.rows if one.hold_id in book.holds}
        if now < self.until:
            for feature, promised in self.promised.items():
                assert held.get(feature, ZERO) >= promised - self.settled.get(feature, ZERO)


amounts = st.integers(1, 30).map(Decimal)
steps = st.one_of(
    st.tuples(
        st.just("call"),
        st.integers(0, 1),
        st.dictionaries(st.sampled_from(FEATURES), amounts),
        st.integers(1, 30),
        st.booleans(),
    ),
    st.tuples(st.just("give away"), st.integers(0, 1), st.sampled_from(FEATURES), amounts),
    st.tuples(st.just("deduct"), amounts),
    st.tuples(st.just("wait"), st.integers(1, 20)),
    st.tuples(st.just("restart"), st.integers(0, 1)),
)


@given(granted=st.integers(0, 60).map(Decimal), story=st.lists(steps, max_size=30))
@example(
    granted=Decimal(20),
    story=[
        ("call", 0, {"a": Decimal(10), "b": Decimal(10)}, 10, False),
        ("wait", 9),
        ("call", 0, {"a": Decimal(20), "b": Decimal(10)}, 30, True),
        ("deduct", Decimal(1)),
        ("give away", 0, "b", Decimal(10)),
        ("call", 0, {}, 10, False),
    ],
)
@example(
    granted=Decimal(20),
    story=[
        ("call", 0, {"a": Decimal(20)}, 30, False),
        ("give away", 0, "a", Decimal(1)),
        ("call", 0, {}, 1, True),
        ("wait", 20),
        ("call", 1, {"a": Decimal(20)}, 10, False),
        ("give away", 0, "a", Decimal(19)),
        ("call", 0, {}, 1, True),
    ],
)
@example(
    granted=Decimal(20),
    story=[
        ("call", 0, {"a": Decimal(20)}, 10, False),
        *[("call", 0, {"a": Decimal(5)}, 10, True)] * 2,
        ("give away", 0, "a", Decimal(20)),
        ("call", 0, {}, 10, False),
    ],
)
def test_what_a_replica_may_still_give_away_is_held_whatever_was_lost(
    granted: Decimal, story: list[tuple[Any, ...]]
) -> None:
    """Two replicas ask, give away, lose answers and begin anew, for longer and shorter; others spend: while a snapshot may be
    used, all that it promises and that was not settled is held, and all that was given away is taken, once."""
    book, replicas, now = a_book(granted), (Replica(), Replica()), NOW
    for deed, *rest in story:
        match deed, *rest:
            case "call", who, wanted, minutes, lost:
                replicas[who].call(book, wanted, timedelta(minutes=minutes), now, lost=lost)
            case "give away", who, feature, amount:
                replicas[who].give_away(feature, amount, now)
            case "deduct", amount:
                deduct(book, Spending(amount), now)
            case "wait", minutes:
                now += timedelta(minutes=minutes)
            case "restart", who:
                replicas[who].restart()
        book.advance(now)
        for replica in replicas:
            replica.check(book, now)
        assert len(book.holds) <= len(replicas) * len(FEATURES)
        assert book.balance >= 0
        assert book.balance + book.totals[EntryType.DEDUCT] + book.totals[EntryType.HOLD] == granted


@given(granted=amounts, before=st.dictionaries(st.sampled_from(FEATURES), amounts), data=st.data())
def test_with_two_answers_that_arrive_nothing_more_is_held_than_is_wanted(
    granted: Decimal, before: dict[str, Decimal], data: st.DataObject
) -> None:
    """What an older promise kept goes back with the first call that says that the replica has the newer one."""
    book, replica, lasting = a_book(granted), Replica(), timedelta(minutes=12)
    replica.call(book, before, lasting, NOW, lost=False)
    wanted = data.draw(st.dictionaries(st.sampled_from(FEATURES), amounts))
    for lost in data.draw(st.lists(st.booleans(), max_size=3)):
        replica.call(book, wanted, lasting, NOW, lost=lost)
    replica.call(book, wanted, lasting, NOW, lost=False)
    last = replica.call(book, wanted, lasting, NOW, lost=False)
    assert {one.feature: book.holds[one.hold_id].amount for one in last.standing} == replica.promised
    assert len(book.holds) == len(last.standing)
    assert all(replica.promised[feature] <= wanted[feature] for feature in replica.promised)
