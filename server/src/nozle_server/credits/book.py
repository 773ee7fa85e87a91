"""One account as it stands, and what has been decided over it but is not written yet.

A book is loaded (under the account's row lock, or as a copy that is compared by version when it is written), told what
happens by the functions of `spending`, `holding` and `giving`, and saved. All of it is arithmetic: no connection, no
clock. A book whose saving failed is thrown away and loaded anew.
"""

from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits.budgets import Usage
from nozle_server.credits.burndown import Pool, burn_order, draw_up_to, pools_of
from nozle_server.credits.model import (
    ZERO,
    Account,
    Budget,
    Draw,
    Entry,
    EntryType,
    Grant,
    Hold,
    HoldStatus,
    Level,
    Receivable,
    Settlement,
)
from nozle_server.credits.watching import Alert, Fact, TopUpRule, fallen, wish

_CUSTOMERS: tuple[Pool, ...] = (None,)
_in_burn_order = attrgetter("order")


@dataclass(slots=True)
class Left:
    """A grant's terms, and what is left of it now."""

    id: UUID
    remaining: Decimal
    terms: Grant
    order: tuple[int, datetime, datetime, UUID]


@dataclass(slots=True)
class EndedHold:
    """How a hold ended, and when."""

    id: UUID
    status: HoldStatus
    taken: Settlement
    at: datetime


@dataclass(slots=True)
class Changes:
    """What is to be written. Amounts by grant, window and receivable are what is added."""

    entries: list[Entry] = field(default_factory=list)
    moves: list[tuple[UUID, UUID, Decimal]] = field(default_factory=list)
    granted: list[Grant] = field(default_factory=list)
    drawn: dict[UUID, Decimal] = field(default_factory=dict)
    held: list[Hold] = field(default_factory=list)
    ended: list[EndedHold] = field(default_factory=list)
    used: dict[tuple[UUID, datetime], Decimal] = field(default_factory=dict)
    owed: list[tuple[UUID, UUID, Decimal, datetime]] = field(default_factory=list)
    paid: dict[UUID, Decimal] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    rule: TopUpRule | None = None

    @property
    def plain(self) -> bool:
        """Whether there are entries at most: no hold, budget or receivable moved, and no new grant."""
        moved = self.granted or self.held or self.ended or self.used or self.owed or self.paid
        return not (moved or self.facts or self.rule)


class Book:
    """An account, its live grants, open holds and receivables, and the budgets and levels of the entities asked for."""

    def __init__(
        self,
        account: Account,
        *,
        timezone: str,
        grants: Iterable[Grant] = (),
        holds: Iterable[Hold] = (),
        receivables: Iterable[Receivable] = (),
        budgets: Iterable[Budget] = (),
        used: Mapping[tuple[UUID, datetime], Decimal] | None = None,
        levels: Mapping[str, Level | None] | None = None,
        alerts: Iterable[Alert] = (),
        rule: TopUpRule | None = None,
    ) -> None:
        """`grants` are those with something left and those that open holds drew on; `levels` the entities asked for, by
        the merchant's id, None where there is none; `used` the newest windows of the `budgets` of theirs."""
        self.account = account
        self.version = account.version
        self.balance = account.balance
        self.last_sequence = account.last_sequence
        self.receivable = account.receivable
        self.totals = {
            EntryType.GRANT: account.granted,
            EntryType.DEDUCT: account.consumed,
            EntryType.EXPIRE: account.expired,
            EntryType.VOID: account.voided,
            EntryType.HOLD: account.held,
            EntryType.REFUND: account.refunded,
            EntryType.ADJUSTMENT: account.adjusted,
            EntryType.TRANSFER: account.transferred,
        }
        self.holds = {hold.id: hold for hold in holds}
        self.receivables = list(receivables)
        self.usage = Usage(timezone, budgets, used or {})
        self.levels = dict(levels or {})
        self.alerts = tuple(alerts)
        self.rule = rule
        self.changes = Changes()
        self._pools: dict[Pool, list[Left]] = {}
        self._sums: dict[Pool, Decimal] = {}
        self._grants: dict[UUID, Left] = {}
        self._next_end: datetime | None = None
        for grant in sorted(grants, key=burn_order):
            self._know(grant)
        for hold in self.holds.values():
            self._ends(hold.expires_at)
        self._seen = self.available()

    def level(self, entity: str | None) -> Level | None:
        """What decides over an entity; NotFound when it is nobody's. None for the customer itself."""
        if entity is None:
            return None
        level = self.levels[entity]
        if level is None:
            raise NotFound("entity not found", code="entity_not_found")
        return level

    def pools(self, level: Level | None) -> tuple[Pool, ...]:
        """Whose grants are spent, the first first."""
        if level is None:
            return _CUSTOMERS
        return pools_of(level.id, (one for one, _ in level.above), level.policy)

    def available(self, pools: Sequence[Pool] = _CUSTOMERS) -> Decimal:
        """What the live grants of these pools hold together."""
        if len(pools) == 1:
            return self._sums.get(pools[0], ZERO)
        total = ZERO
        for pool in pools:
            total = EXACT.add(total, self._sums.get(pool, ZERO))
        return total

    def grant(self, grant_id: UUID) -> Grant | None:
        """A grant that has something left, or that an open hold drew on."""
        found = self._grants.get(grant_id)
        return None if found is None else found.terms

    def left(self, grant_id: UUID) -> Decimal:
        """What is left of a grant; 0 of one that was spent long ago."""
        found = self._grants.get(grant_id)
        return ZERO if found is None else found.remaining

    def grants(self, *pools: Pool) -> list[Grant]:
        """The terms of what can be spent of these pools, in burn order."""
        return [left.terms for pool in pools for left in self._pools.get(pool, ())]

    def draw(self, pools: Sequence[Pool], amount: Decimal) -> tuple[tuple[Draw, ...], Decimal]:
        """Which grants of these pools pay for up to `amount`, and what they do not cover. Takes nothing yet."""
        if len(pools) == 1:
            return draw_up_to(self._pools.get(pools[0], ()), amount)
        return draw_up_to((left for pool in pools for left in self._pools.get(pool, ())), amount)

    def draw_on(self, grants: Iterable[UUID], amount: Decimal) -> tuple[tuple[Draw, ...], Decimal]:
        """The same of these grants alone, in this order."""
        return draw_up_to((self._grants[one] for one in grants if one in self._grants), amount)

    def take(
        self,
        kind: EntryType,
        draws: Sequence[Draw],
        now: datetime,
        *,
        feature: str | None = None,
        description: str | None = None,
        entity_id: UUID | None = None,
        hold_id: UUID | None = None,
    ) -> Entry:
        """An entry of what `draws` take from their grants."""
        moves = [Draw(draw.grant_id, draw.amount.copy_negate()) for draw in draws]
        return self._append(
            kind,
            moves,
            now,
            feature=feature,
            description=description,
            entity_id=entity_id,
            hold_id=hold_id,
        )

    def put_back(
        self,
        kind: EntryType,
        draws: Sequence[Draw],
        now: datetime,
        *,
        feature: str | None = None,
        description: str | None = None,
        entity_id: UUID | None = None,
        hold_id: UUID | None = None,
        refunds_id: UUID | None = None,
    ) -> Entry:
        """An entry of what goes back to the grants it was drawn from."""
        return self._append(
            kind,
            draws,
            now,
            feature=feature,
            description=description,
            entity_id=entity_id,
            hold_id=hold_id,
            refunds_id=refunds_id,
        )

    def put(self, kind: EntryType, grants: Sequence[Grant], now: datetime, description: str | None) -> Entry:
        """An entry of what new `grants` bring."""
        for grant in grants:
            self._know(grant, remaining=ZERO)
            self.changes.granted.append(grant)
        fills = [Draw(grant.id, grant.amount) for grant in grants]
        entity_id = grants[0].entity_id
        return self._append(kind, fills, now, description=description, entity_id=entity_id, new=True)

    def know_spent(self, grants: Iterable[Grant]) -> None:
        """Grants of which nothing is left, because something will go back to them."""
        for grant in grants:
            if grant.id not in self._grants:
                self._know(grant)

    def open_hold(self, hold: Hold) -> None:
        self.holds[hold.id] = hold
        self.changes.held.append(hold)
        self._ends(hold.expires_at)

    def end_hold(self, hold: Hold, status: HoldStatus, taken: Settlement, now: datetime) -> None:
        del self.holds[hold.id]
        self.changes.ended.append(EndedHold(hold.id, status, taken, now))

    def use(self, windows: Iterable[tuple[UUID, datetime]], amount: Decimal) -> None:
        """Count `amount` in windows of budgets; a negative one takes it out again."""
        for window in windows:
            self.usage.add(window, amount)
            self.changes.used[window] = EXACT.add(self.changes.used.get(window, ZERO), amount)

    def advance(self, now: datetime) -> None:
        """End what is over at `now`: holds whose time is up give back what they held, expired grants are written off,
        so that nothing can reach them."""
        if self._next_end is None or now < self._next_end:
            return
        ended = [one for one in self.holds.values() if one.expires_at <= now]
        for hold in sorted(ended, key=lambda one: (one.expires_at, one.id)):
            self.release(hold, HoldStatus.EXPIRED, now)
        # In burn order, whatever pools are known in which order: every process writes the same history.
        left_over = [left for pool in self._pools.values() for left in pool]
        for left in sorted(left_over, key=_in_burn_order):
            if left.terms.expires_at is not None and left.terms.expires_at <= now:
                self.take(
                    EntryType.EXPIRE,
                    [Draw(left.id, left.remaining)],
                    now,
                    description=left.terms.description,
                    entity_id=left.terms.entity_id,
                )
        ends = [left.terms.expires_at for pool in self._pools.values() for left in pool]
        ends += [hold.expires_at for hold in self.holds.values()]
        self._next_end = min((end for end in ends if end is not None), default=None)

    def release(self, hold: Hold, status: HoldStatus, now: datetime) -> None:
        """Put back all that a hold took."""
        self.put_back(
            EntryType.RELEASE,
            hold.draws,
            now,
            feature=hold.feature,
            entity_id=hold.entity_id,
            hold_id=hold.id,
        )
        self.use(hold.windows, hold.amount.copy_negate())
        self.end_hold(hold, status, Settlement(ZERO, ZERO, ZERO), now)

    def look(self) -> None:
        """Tell of what the customer's credits have fallen below since they were last written, before they are now."""
        if not self.alerts and self.rule is None:
            return
        left = self.available()
        self.changes.facts += fallen(self.alerts, self._seen, left)
        self._seen = left
        if self.rule is not None and self.changes.entries:
            wished = wish(self.rule, left, self.changes.entries[-1].occurred_at, self.usage.timezone)
            if wished is not None:
                self.rule, fact = wished
                self.changes.rule = self.rule
                self.changes.facts.append(fact)

    def sent(self) -> Changes:
        """What was decided, which is being written from now on; the book goes on as if it were, towards the next version of
        the account. Whoever hears that it was not throws the book away, and what was decided over it since."""
        changes, self.changes = self.changes, Changes()
        self.version += 1
        self._seen = self.available()
        return changes

    def _append(
        self,
        kind: EntryType,
        moves: Sequence[Draw],
        now: datetime,
        *,
        feature: str | None = None,
        description: str | None = None,
        entity_id: UUID | None = None,
        hold_id: UUID | None = None,
        refunds_id: UUID | None = None,
        new: bool = False,
    ) -> Entry:
        changes, entry_id, amount = self.changes, new_id(), ZERO
        for move in moves:
            self._move(move.grant_id, move.amount)
            amount = EXACT.add(amount, move.amount)
            changes.moves.append((entry_id, move.grant_id, move.amount))
            if not new:
                changes.drawn[move.grant_id] = EXACT.add(changes.drawn.get(move.grant_id, ZERO), move.amount)
        self.balance = EXACT.add(self.balance, amount)
        self.last_sequence += 1
        self._add_up(kind, amount)
        entry = Entry(
            entry_id,
            self.last_sequence,
            kind,
            amount,
            self.balance,
            feature,
            description,
            entity_id,
            now,
            hold_id,
            refunds_id,
        )
        changes.entries.append(entry)
        return entry

    def _add_up(self, kind: EntryType, amount: Decimal) -> None:
        match kind:
            case EntryType.DEDUCT | EntryType.EXPIRE | EntryType.VOID | EntryType.HOLD:
                self.totals[kind] = EXACT.subtract(self.totals[kind], amount)
            case EntryType.RELEASE:
                self.totals[EntryType.HOLD] = EXACT.subtract(self.totals[EntryType.HOLD], amount)
            case _:
                self.totals[kind] = EXACT.add(self.totals[kind], amount)

    def _move(self, grant_id: UUID, amount: Decimal) -> None:
        left = self._grants[grant_id]
        was = left.remaining
        left.remaining = EXACT.add(was, amount)
        assert ZERO <= left.remaining <= left.terms.amount, "a grant holds between nothing and all of it"
        pool = left.terms.entity_id
        self._sums[pool] = EXACT.add(self._sums.get(pool, ZERO), amount)
        if not left.remaining:
            self._pools[pool].remove(left)
        elif not was:
            insort(self._pools.setdefault(pool, []), left, key=_in_burn_order)
            self._ends(left.terms.expires_at)

    def _know(self, grant: Grant, remaining: Decimal | None = None) -> None:
        held = grant.remaining if remaining is None else remaining
        left = Left(grant.id, held, grant, burn_order(grant))
        self._grants[grant.id] = left
        if held:
            self._pools.setdefault(grant.entity_id, []).append(left)
            self._sums[grant.entity_id] = EXACT.add(self._sums.get(grant.entity_id, ZERO), held)
            self._ends(grant.expires_at)

    def _ends(self, at: datetime | None) -> None:
        if at is not None and (self._next_end is None or at < self._next_end):
            self._next_end = at
