"""The kernel of credits against a plain model (M11): whatever is done, in whatever order, nothing is lost or made.

A machine does random deeds to two accounts. After each it writes what the book says has changed into plain dicts, as the
database would, loads a book of its own from these, and compares: a copy that was kept must be what the database says.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits import giving, holding, spending
from nozle_server.credits.book import Book
from nozle_server.credits.burndown import burn_order
from nozle_server.credits.holding import HoldEnded, Holding, Settling
from nozle_server.credits.model import (
    ZERO,
    Account,
    AccountKind,
    Budget,
    BudgetInterval,
    Draw,
    Entry,
    EntryType,
    Grant,
    GrantSource,
    Hold,
    HoldStatus,
    Level,
    PoolPolicy,
    Receivable,
    Refusal,
)
from nozle_server.credits.spending import Spending

START = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
TEAM, AGENT, LONER, GUEST = (new_id() for _ in range(4))
LEVELS = {
    "team": Level(TEAM, "team", True, PoolPolicy.ENTITY_THEN_CUSTOMER),
    "agent": Level(AGENT, "agent", True, PoolPolicy.ENTITY_THEN_CUSTOMER, ((TEAM, "team"),)),
    "loner": Level(LONER, "loner", True, PoolPolicy.ENTITY_ONLY),
    "guest": Level(GUEST, "guest", True, PoolPolicy.CUSTOMER_ONLY, ((TEAM, "team"),)),
    "asleep": Level(new_id(), "asleep", False, PoolPolicy.ENTITY_THEN_CUSTOMER),
}
Ask = tuple[int, Decimal]
ADDS = {EntryType.GRANT, EntryType.RELEASE, EntryType.REFUND}
EITHER = {EntryType.ADJUSTMENT, EntryType.TRANSFER}

amounts = st.one_of(
    st.integers(1, 30).map(Decimal),
    st.integers(1, 3 * 10**13).map(lambda n: Decimal(n).scaleb(-12)),
)
asks = st.tuples(st.sampled_from([1, 5, 5, 10, 10, 20, 30, 50, 100, 120]), amounts)
"""An amount as percent of what there is, or where there is nothing an amount."""
USED = [0, 30, 100, 100, 150, 400]
"""What the work came to, in percent of the hold."""
limits = st.sampled_from([ZERO, Decimal("0.7"), Decimal(10**6)])
entities = st.sampled_from([None, None, None, "team", "agent", "loner", "guest"])
lives = st.sampled_from([None, None, None, 1, 2, 24, 60])
owners = st.sampled_from([None, None, None, TEAM, AGENT, LONER, GUEST])
sides = st.sampled_from([0, 0, 0, 1])
places = st.integers(0, 300)


def total(amounts: Any) -> Decimal:
    summed = ZERO
    for one in amounts:
        summed = EXACT.add(summed, one)
    return summed


def window(interval: BudgetInterval, now: datetime) -> datetime:
    """The start of the window that `now` falls in, in UTC, worked out the short way."""
    match interval:
        case BudgetInterval.RUN:
            return datetime(1970, 1, 1, tzinfo=UTC)
        case BudgetInterval.HOUR:
            return now.replace(minute=0, second=0, microsecond=0)
        case BudgetInterval.DAY:
            return now.replace(hour=0, minute=0, second=0, microsecond=0)
        case BudgetInterval.MONTH:
            return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@dataclass
class Spent:
    """What was spent or is held, by whom and when: what budgets count."""

    entity: str | None
    at: datetime
    amount: Decimal


@dataclass
class Rows:
    """An account as the database has it, and a book of it that is kept from deed to deed."""

    budgets: list[Budget]
    account: Account
    grants: dict[UUID, Grant] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    moves: list[tuple[UUID, UUID, Decimal]] = field(default_factory=list)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    ended: dict[UUID, HoldStatus] = field(default_factory=dict)
    used: dict[tuple[UUID, datetime], Decimal] = field(default_factory=dict)
    owed: dict[UUID, Receivable] = field(default_factory=dict)
    spent: dict[UUID, Spent] = field(default_factory=dict)
    book: Book = field(init=False)

    def __post_init__(self) -> None:
        self.book = self.load()

    def load(self) -> Book:
        drawn_on = {draw.grant_id for hold in self.holds.values() for draw in hold.draws}
        return Book(
            self.account,
            timezone="UTC",
            grants=[one for one in self.grants.values() if one.remaining or one.id in drawn_on],
            holds=self.holds.values(),
            receivables=[one for one in self.owed.values() if one.open],
            budgets=self.budgets,
            used=self.used,
            levels=dict(LEVELS),
        )

    def write(self) -> None:
        """What `book_store.save` does."""
        book, changes = self.book, self.book.changes
        known = self.holds | {hold.id: hold for hold in changes.held}
        for grant in changes.granted:
            assert grant.id not in self.grants
            self.grants[grant.id] = grant
        self.entries += changes.entries
        self.moves += changes.moves
        for grant_id, amount in changes.drawn.items():
            before = self.grants[grant_id]
            self.grants[grant_id] = replace(before, remaining=EXACT.add(before.remaining, amount))
        for hold in changes.held:
            self.holds[hold.id] = hold
        for ended in changes.ended:
            self.spent[ended.id].amount = ended.taken.settled
            self.ended[ended.id] = ended.status
            del self.holds[ended.id]
        for key, amount in changes.used.items():
            self.used[key] = EXACT.add(self.used.get(key, ZERO), amount)
        for receivable_id, hold_id, amount, _ in changes.owed:
            whose = known[hold_id]
            self.owed[receivable_id] = Receivable(
                receivable_id, hold_id, whose.feature, whose.entity_id, amount
            )
        for receivable_id, paid in changes.paid.items():
            before = self.owed[receivable_id]
            self.owed[receivable_id] = replace(before, open=EXACT.subtract(before.open, paid))
        sums = book.totals
        self.account = replace(
            self.account,
            balance=book.balance,
            granted=sums[EntryType.GRANT],
            consumed=sums[EntryType.DEDUCT],
            expired=sums[EntryType.EXPIRE],
            voided=sums[EntryType.VOID],
            held=sums[EntryType.HOLD],
            refunded=sums[EntryType.REFUND],
            adjusted=sums[EntryType.ADJUSTMENT],
            transferred=sums[EntryType.TRANSFER],
            receivable=book.receivable,
            last_sequence=book.last_sequence,
            version=self.account.version + 1,
        )
        book.sent()

    def spendable(self, entity: str | None, now: datetime) -> list[Grant]:
        """What an entity may spend, in order, by the rules as they are written down (Decision 14, `pool_policy`)."""
        level = None if entity is None else LEVELS[entity]
        if level is None or level.policy is PoolPolicy.CUSTOMER_ONLY:
            owners: list[UUID | None] = [None]
        else:
            owners = [level.id, *(one for one, _ in level.above)]
            if level.policy is PoolPolicy.ENTITY_THEN_CUSTOMER:
                owners.append(None)
        live = sorted((one for one in self.grants.values() if one.is_live(now)), key=burn_order)
        return [one for owner in owners for one in live if one.entity_id == owner]

    def levels_of(self, entity: str | None) -> list[UUID | None]:
        if entity is None:
            return [None]
        level = LEVELS[entity]
        return [level.id, *(one for one, _ in level.above), None]

    def room(self, entity: str | None, now: datetime) -> Decimal | None:
        """What the budgets still allow; None without any."""
        left = [
            one.limit - self.used.get((one.id, window(one.interval, now)), ZERO)
            for one in self.budgets
            if one.entity_id in self.levels_of(entity)
        ]
        return max(min(left), ZERO) if left else None

    def refuses(self, entity: str | None, amount: Decimal, now: datetime) -> bool:
        room = self.room(entity, now)
        return room is not None and amount > room


def account() -> Account:
    return Account(new_id(), new_id(), new_id(), AccountKind.CREDITS, "credits", *[ZERO] * 10, 0, 0)


class Kernel(RuleBasedStateMachine):
    """Two customers of the same four entities; the first one also has budgets."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.sides: list[Rows] = []
        self.refunded: dict[UUID, dict[UUID, Decimal]] = {}

    @initialize(
        budgeted=st.lists(
            st.tuples(owners, st.sampled_from(BudgetInterval), amounts.map(lambda n: n * 30)), max_size=5
        ),
        granted=st.lists(st.tuples(owners, amounts.map(lambda n: n * 4), lives), min_size=1, max_size=8),
    )
    def begin(
        self,
        budgeted: list[tuple[UUID | None, BudgetInterval, Decimal]],
        granted: list[tuple[UUID | None, Decimal, int | None]],
    ) -> None:
        unique = {(owner, interval): limit for owner, interval, limit in budgeted}
        budgets = [Budget(new_id(), owner, interval, limit) for (owner, interval), limit in unique.items()]
        self.sides = [Rows(budgets, account()), Rows([], account())]
        for on, (owner, amount, hours) in enumerate(granted):
            self.grant(on % 2, amount, owner, 50, hours, GrantSource.TOP_UP)

    def do(self, deed: Callable[[Book], Any], on: int = 0) -> Any:
        """A deed on the book that was kept; one that was loaded just now must decide the same."""
        rows = self.sides[on]
        fresh, kept = rows.load(), rows.book
        outcomes = []
        for book in (fresh, kept):
            try:
                outcomes.append(deed(book))
            except HoldEnded as ended:
                outcomes.append(ended)
        assert told(outcomes[0]) == told(outcomes[1])
        assert [told(one) for one in fresh.changes.entries] == [told(one) for one in kept.changes.entries]
        return outcomes[1]

    def settle_down(self) -> None:
        """End what is over, so that what comes next is compared with what may be spent now."""
        for rows in self.sides:
            rows.book.advance(self.now)
            rows.write()
            assert all(one.is_live(self.now) for one in rows.grants.values() if one.remaining)
            assert all(one.expires_at > self.now for one in rows.holds.values())

    @rule(
        hours=st.sampled_from([0, 0, 0, 0, 0, 1, 7, 24, 40 * 24]),
        minutes=st.integers(1, 59),
        settle=st.booleans(),
    )
    def time_passes(self, hours: int, minutes: int, settle: bool) -> None:
        self.now += timedelta(hours=hours, minutes=minutes)
        if settle:
            self.settle_down()

    @rule(
        on=sides,
        amount=amounts.map(lambda n: n * 4),
        owner=owners,
        priority=st.sampled_from([0, 50, 50, 60]),
        hours=lives,
        source=st.sampled_from([GrantSource.TOP_UP, GrantSource.MANUAL]),
    )
    def grant(
        self,
        on: int,
        amount: Decimal,
        owner: UUID | None,
        priority: int,
        hours: int | None,
        source: GrantSource,
    ) -> None:
        rows = self.sides[on]
        self.settle_down()
        owes = rows.account.receivable
        ends = None if hours is None else self.now + timedelta(hours=hours)
        made = replace(
            giving.a_grant(amount, source, self.now, priority=priority, expires_at=ends), entity_id=owner
        )
        entry = self.do(lambda book: giving.give(book, made, self.now), on)
        rows.write()
        assert (entry.type, entry.amount) == (EntryType.GRANT, amount)
        paid = min(owes, amount) if owner is None else ZERO
        assert rows.account.receivable == owes - paid
        assert rows.grants[made.id].remaining == amount - paid

    @rule(on=sides, ask=asks, entity=entities, to_the_brim=st.booleans())
    def deduct(self, on: int, ask: Ask, entity: str | None, to_the_brim: bool = False) -> None:
        rows = self.sides[on]
        self.settle_down()
        mine = rows.spendable(entity, self.now)
        amount = some_of(mine, ask)
        room = rows.room(entity, self.now)
        if to_the_brim and room:
            amount = room
        enough, within = (
            total(one.remaining for one in mine) >= amount,
            not rows.refuses(entity, amount, self.now),
        )
        answer = self.do(lambda book: spending.deduct(book, Spending(amount, "chat", entity), self.now), on)
        rows.write()
        assert answer.allowed == (enough and within)
        if answer.allowed:
            assert answer.entry.amount == -amount
            assert in_order(mine, amount) == list(answer.draws)
            rows.spent[answer.entry.id] = Spent(entity, self.now, amount)
        else:
            wanted = Refusal.BUDGET_EXCEEDED if enough else Refusal.INSUFFICIENT_CREDITS
            assert (answer.reason, answer.entry) == (wanted, None)
        assert answer.remaining == total(one.remaining for one in rows.spendable(entity, self.now))

    @rule(on=sides, ask=asks, entity=entities, minutes=st.sampled_from([1, 50, 600, 3000]))
    def hold(self, on: int, ask: Ask, entity: str | None, minutes: int) -> None:
        rows = self.sides[on]
        self.settle_down()
        mine = rows.spendable(entity, self.now)
        amount = some_of(mine, ask)
        allowed = total(one.remaining for one in mine) >= amount and not rows.refuses(
            entity, amount, self.now
        )
        asked = Holding(Spending(amount, "chat", entity), self.now + timedelta(minutes=minutes))
        held = self.do(lambda book: holding.hold(book, asked, self.now), on)
        if held.hold is not None:
            rows.spent[held.hold.id] = Spent(entity, self.now, amount)
        rows.write()
        assert (held.hold is not None) == allowed
        if held.hold is not None:
            assert list(held.hold.draws) == in_order(mine, amount)
        assert held.remaining == total(one.remaining for one in rows.spendable(entity, self.now))

    @precondition(lambda self: any(rows.holds for rows in self.sides))
    @rule(on=sides, place=places, percent=st.sampled_from(USED), limit=limits)
    def settle(self, on: int, place: int, percent: int, limit: Decimal) -> None:
        rows = self.sides[on]
        hold_id = some_hold(rows, place)
        before = rows.holds.get(hold_id)
        amount = Decimal(7) if before is None else part_of(before.amount, percent)
        owed = rows.account.receivable
        settled = self.do(lambda book: holding.settle(book, Settling(hold_id, amount, limit), self.now), on)
        entries = list(rows.book.changes.entries)
        rows.write()
        if before is None or before.expires_at <= self.now:
            assert isinstance(settled, HoldEnded)
            return
        assert rows.ended[hold_id] is HoldStatus.SETTLED
        taken = -total(one.amount for one in entries if one.type is EntryType.DEDUCT)
        assert settled.settled == taken + settled.uncovered <= amount
        assert settled.settled >= min(amount, before.amount), "what was held is there for it"
        assert settled.uncovered <= limit
        assert rows.account.receivable == owed + settled.uncovered
        if settled.uncovered or settled.settled < amount:
            assert not settled.remaining, "nothing stays uncovered that could be spent"
        if settled.settled < amount:
            assert settled.uncovered == limit

    @rule(ask=asks, entity=entities, between=amounts, percent=st.sampled_from(USED), limit=limits)
    def work(self, ask: Ask, entity: str | None, between: Decimal, percent: int, limit: Decimal) -> None:
        """A hold that is settled while others spend."""
        self.hold(0, ask, entity, 90)
        self.deduct(0, (30, between), None)
        self.time_passes(1, 1, settle=False)
        self.settle(0, 0, percent, limit)

    @precondition(lambda self: any(rows.holds for rows in self.sides))
    @rule(on=sides, place=places)
    def release(self, on: int, place: int) -> None:
        rows = self.sides[on]
        hold_id = some_hold(rows, place)
        before = rows.holds.get(hold_id)
        released = self.do(lambda book: holding.release(book, hold_id, self.now), on)
        rows.write()
        if before is None or before.expires_at <= self.now:
            assert isinstance(released, HoldEnded)
        else:
            assert rows.ended[hold_id] is HoldStatus.RELEASED

    @rule(on=sides, place=places, amount=st.none() | amounts)
    def void(self, on: int, place: int, amount: Decimal | None) -> None:
        rows = self.sides[on]
        self.settle_down()
        if not rows.grants:
            return
        grant = pick(list(rows.grants.values()), place)
        entry = self.do(lambda book: giving.void(book, grant.id, amount, self.now), on)
        rows.write()
        wanted = grant.remaining if amount is None else amount
        if entry is None:
            assert not wanted or wanted > grant.remaining
            assert rows.grants[grant.id].remaining == grant.remaining
        else:
            assert entry.amount == -wanted
            assert rows.grants[grant.id].remaining == grant.remaining - wanted

    @rule(on=sides, place=places, part=st.fractions(0, 1))
    def refund(self, on: int, place: int, part: Any) -> None:
        """Part of what is left to give back of a deduction; twice never gives back more than was taken."""
        rows = self.sides[on]
        spent = [one for one in rows.entries if one.type is EntryType.DEDUCT]
        if not spent:
            return
        entry = pick(spent, place)
        given = self.refunded.setdefault(entry.id, {})
        draws = []
        for entry_id, grant_id, amount in rows.moves:
            left = -amount - given.get(grant_id, ZERO) if entry_id == entry.id else ZERO
            back = (left * part.numerator / part.denominator).quantize(Decimal("1e-12")) if left else ZERO
            if 0 < back <= left:
                draws.append(Draw(grant_id, back))
                given[grant_id] = given.get(grant_id, ZERO) + back
        if not draws:
            return
        spent_grants = [rows.grants[one.grant_id] for one in draws]

        def deed(book: Book) -> Entry:
            book.know_spent(spent_grants)
            return giving.refund(book, entry, draws, self.now, None)

        refunded = self.do(deed, on)
        rows.write()
        assert (refunded.amount, refunded.refunds_id) == (total(one.amount for one in draws), entry.id)

    @rule(on=sides, ask=asks, up=st.booleans())
    def correct(self, on: int, ask: Ask, up: bool) -> None:
        rows = self.sides[on]
        self.settle_down()
        mine = rows.spendable(None, self.now)
        amount = some_of(mine, ask)
        signed = amount if up else -amount
        entry = self.do(lambda book: giving.correct(book, signed, self.now, description="why"), on)
        rows.write()
        assert (entry is not None) == (up or total(one.remaining for one in mine) >= amount)
        assert entry is None or entry.amount == signed

    @rule(source=sides, ask=asks)
    def transfer(self, source: int, ask: Ask) -> None:
        self.settle_down()
        giver, taker = self.sides[source], self.sides[1 - source]
        amount = some_of(giver.spendable(None, self.now), ask)
        had = giver.account.balance + taker.account.balance
        owed = taker.account.receivable
        enough = total(one.remaining for one in giver.spendable(None, self.now)) >= amount
        moved = giving.transfer(giver.book, taker.book, amount, self.now)
        parts = list(taker.book.changes.granted)
        giver.write()
        taker.write()
        assert (moved is not None) == enough
        if moved is not None:
            assert (moved[0].amount, moved[1].amount) == (-amount, amount)
            drawn = {one: giver.grants[one] for entry, one, _ in giver.moves if entry == moved[0].id}
            assert sorted((one.priority, str(one.expires_at)) for one in drawn.values()) == sorted(
                (one.priority, str(one.expires_at)) for one in parts
            )
            paid = owed - taker.account.receivable
            assert paid == min(owed, amount)
            assert giver.account.balance + taker.account.balance == had - paid

    @rule(on=sides, ask=asks, owner=st.sampled_from([TEAM, AGENT, LONER]))
    def allocate(self, on: int, ask: Ask, owner: UUID) -> None:
        rows = self.sides[on]
        self.settle_down()
        bought = [one for one in rows.spendable(None, self.now) if one.source is GrantSource.TOP_UP]
        amount = some_of(bought, ask)
        before = rows.account.balance
        moved = self.do(lambda book: giving.allocate(book, owner, amount, self.now), on)
        rows.write()
        assert (moved is not None) == (total(one.remaining for one in bought) >= amount)
        assert rows.account.balance == before

    @rule(
        on=sides, amount=st.none() | amounts, owner=st.sampled_from([TEAM, AGENT, LONER]), end=st.booleans()
    )
    def take_back(self, on: int, amount: Decimal | None, owner: UUID, end: bool) -> None:
        rows = self.sides[on]
        self.settle_down()
        mine = [one for one in rows.grants.values() if one.entity_id == owner and one.remaining]
        allocated = [one for one in mine if one.source is GrantSource.ALLOCATION]
        parents = [rows.grants[one.parent_id] for one in allocated if one.parent_id]
        before = rows.account.balance

        def deed(book: Book) -> Any:
            book.know_spent(parents)
            if end:
                return giving.close_entity(book, owner, self.now)
            return giving.take_back(book, owner, amount, self.now)

        moved = self.do(deed, on)
        rows.write()
        there = total(one.remaining for one in allocated)
        if end:
            assert not any(one.remaining for one in rows.grants.values() if one.entity_id == owner)
            expired = total(one.remaining for one in mine) - there
            assert rows.account.balance == before - expired
        else:
            assert (moved is not None) == bool(there and (amount is None or amount <= there))
            assert rows.account.balance == before

    @invariant()
    def the_books_are_right(self) -> None:
        for rows in self.sides:
            check_books(rows)
            check_holds(rows)
            check_budgets(rows)
            check_copy(rows)


def check_books(rows: Rows) -> None:
    """Balances are the sums of entries and of what is left of grants; sums by type; nothing below zero; no gap."""
    running = ZERO
    sums = dict.fromkeys(EntryType, ZERO)
    by_entry: dict[UUID, list[Decimal]] = {}
    by_grant: dict[UUID, Decimal] = {}
    for entry_id, grant_id, amount in rows.moves:
        by_entry.setdefault(entry_id, []).append(amount)
        by_grant[grant_id] = EXACT.add(by_grant.get(grant_id, ZERO), amount)
    for place, entry in enumerate(rows.entries, 1):
        running = EXACT.add(running, entry.amount)
        sums[entry.type] = EXACT.add(sums[entry.type], entry.amount)
        assert (entry.sequence, entry.balance_after) == (place, running)
        assert running >= 0
        assert total(by_entry[entry.id]) == entry.amount != 0
        assert all((one > 0) == (entry.amount > 0) for one in by_entry[entry.id])
        assert entry.type in EITHER or (entry.amount > 0) == (entry.type in ADDS)
    for grant in rows.grants.values():
        assert 0 <= grant.remaining <= grant.amount
        assert by_grant.get(grant.id, ZERO) == grant.remaining
    one = rows.account
    assert one.balance == running == total(grant.remaining for grant in rows.grants.values())
    assert one.balance == (one.granted + one.refunded + one.adjusted + one.transferred) - (
        one.consumed + one.expired + one.voided + one.held
    )
    assert (one.granted, one.consumed) == (sums[EntryType.GRANT], -sums[EntryType.DEDUCT])
    assert (one.expired, one.voided) == (-sums[EntryType.EXPIRE], -sums[EntryType.VOID])
    assert one.held == -sums[EntryType.HOLD] - sums[EntryType.RELEASE]
    assert (one.refunded, one.adjusted) == (sums[EntryType.REFUND], sums[EntryType.ADJUSTMENT])
    assert (one.transferred, one.last_sequence) == (sums[EntryType.TRANSFER], len(rows.entries))


def check_holds(rows: Rows) -> None:
    """What is held is what open holds hold; what is owed is what settlements left open."""
    assert rows.account.held == total(one.amount for one in rows.holds.values())
    for hold in rows.holds.values():
        assert total(draw.amount for draw in hold.draws) == hold.amount
        assert len({draw.grant_id for draw in hold.draws}) == len(hold.draws)
    assert rows.account.receivable == total(one.open for one in rows.owed.values())
    assert all(one.open >= 0 for one in rows.owed.values())


def check_budgets(rows: Rows) -> None:
    """A window has been used for what was spent in it by the entity and all below it, and what was held in it."""
    used: dict[tuple[UUID, datetime], Decimal] = {}
    for spent in rows.spent.values():
        for budget in rows.budgets:
            if budget.entity_id in rows.levels_of(spent.entity):
                key = budget.id, window(budget.interval, spent.at)
                used[key] = EXACT.add(used.get(key, ZERO), spent.amount)
    assert {key: one for key, one in rows.used.items() if one} == {
        key: one for key, one in used.items() if one
    }


def check_copy(rows: Rows) -> None:
    """The book that was kept says what one says that was loaded just now."""
    fresh, kept = rows.load(), rows.book
    assert (kept.balance, kept.last_sequence, kept.version) == (
        fresh.balance,
        fresh.last_sequence,
        fresh.version,
    )
    assert (kept.totals, kept.receivable, kept.receivables) == (
        fresh.totals,
        fresh.receivable,
        fresh.receivables,
    )
    assert kept.holds == fresh.holds
    for owner in (None, TEAM, AGENT, LONER, GUEST):
        assert [one.id for one in kept.grants(owner)] == [one.id for one in fresh.grants(owner)]
        assert kept.available((owner,)) == fresh.available((owner,))
    for grant in rows.grants.values():
        assert kept.left(grant.id) == grant.remaining


def in_order(grants: list[Grant], amount: Decimal) -> list[Draw]:
    draws = []
    for one in grants:
        if amount > 0:
            draws.append(Draw(one.id, min(one.remaining, amount)))
            amount -= min(one.remaining, amount)
    return draws


def told(outcome: Any) -> Any:
    """An outcome without the ids that are made anew each time."""
    match outcome:
        case Entry():
            return structs.replace(outcome, id=new_id_of_nobody, hold_id=None)
        case holding.Held(hold=Hold() as made):
            return replace(outcome, hold=replace(made, id=new_id_of_nobody))
        case spending.Deduction(entry=Entry() as entry):
            return structs.replace(outcome, entry=told(entry))
        case HoldEnded():
            return HoldEnded
        case tuple():
            return [told(one) for one in outcome]
        case list():
            return [told(one) for one in outcome]
        case Grant():
            return replace(outcome, id=new_id_of_nobody)
        case _:
            return outcome


new_id_of_nobody = UUID(int=0)


def some_of(grants: list[Grant], ask: Ask) -> Decimal:
    percent, amount = ask
    return part_of(total(one.remaining for one in grants), percent) or amount


def part_of(amount: Decimal, percent: int) -> Decimal:
    return (amount * percent / 100).quantize(Decimal("1e-12"))


def some_hold(rows: Rows, place: int) -> UUID:
    """Mostly one that is open, as far as there is one."""
    chosen: UUID = pick([*list(rows.holds) * 5, *rows.ended, new_id()], place)
    return chosen


def pick(choices: list[Any], place: int) -> Any:
    return choices[place % len(choices)]


def test_one_asleep_spends_nothing() -> None:
    rows = Rows([], account())
    giving.give(rows.book, giving.a_grant(Decimal(10), GrantSource.MANUAL, START), START)
    rows.write()
    asked = Spending(Decimal(1), "chat", "asleep")
    assert spending.deduct(rows.book, asked, START).reason is Refusal.ENTITY_INACTIVE
    later = START + timedelta(hours=1)
    assert holding.hold(rows.book, Holding(asked, later), START).reason is Refusal.ENTITY_INACTIVE
    assert rows.book.changes.plain
    assert not rows.book.changes.entries


TestKernel = Kernel.TestCase
TestKernel.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
