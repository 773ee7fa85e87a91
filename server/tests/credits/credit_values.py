"""What the plain model of credits is made of: customers with entities and accounts, and in these grants, holds, budgets and
what was spent. Each knows what it has; what happens to them is in `credit_model.py`."""

from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Any
from zoneinfo import ZoneInfo

ZERO = Decimal(0)
FOREVER = datetime.max.replace(tzinfo=UTC)


class Refused(Exception):
    """An error: its status and stable code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code
        self.or_else: Refused | None = None

    @property
    def either(self) -> "list[Refused]":
        return [self] if self.or_else is None else [self, self.or_else]


@dataclass(frozen=True)
class Id:
    """In what is said: the server's id of `of`, which is learned where it is seen first."""

    of: Any


@dataclass(frozen=True)
class ByKey:
    """In what is said: a list in any order, by what tells its rows apart."""

    key: str
    rows: dict[str, Any]


Said = dict[str, Any]
"""What must be answered, of all that is: numbers by value."""


@dataclass(eq=False)
class Entity:
    """One incarnation."""

    name: str
    status: str = "active"
    parent: "Entity | None" = None
    policy: str = "entity_then_customer"

    @property
    def chain(self) -> "list[Entity]":
        return [self] if self.parent is None else [self, *self.parent.chain]

    @property
    def may_spend(self) -> bool:
        return all(one.status == "active" for one in self.chain)

    @property
    def pools(self) -> "list[Entity | None]":
        """Whose grants it spends, in this order; None is the customer."""
        return {
            "entity_only": [*self.chain],
            "entity_then_customer": [*self.chain, None],
            "customer_only": [None],
        }[self.policy]


@dataclass(eq=False)
class Grant:
    number: int
    owner: Entity | None
    amount: Decimal
    left: Decimal
    priority: int
    source: str
    expires_at: datetime | None
    created_at: datetime
    parent: "Grant | None" = None
    reference: tuple[Any, ...] = ()
    lapsed: Decimal = ZERO  # what was left of it when its time was over
    id: str | None = None

    @property
    def order(self) -> tuple[Any, ...]:
        return self.priority, self.expires_at or FOREVER, self.created_at, self.number


@dataclass(eq=False)
class Spend:
    """What counts in budgets: what was deducted or is held, at the time when it was asked for."""

    entity: Entity | None
    at: datetime
    amount: Decimal


@dataclass(eq=False)
class Hold:
    number: int
    system: str
    amount: Decimal
    feature: str
    pools: "list[Entity | None]"
    parts: list[tuple[Grant, Decimal]]
    windows: "list[tuple[Budget, datetime | None]]"
    expires_at: datetime
    spend: Spend
    status: str = "open"
    settled: Decimal = ZERO
    uncovered: Decimal = ZERO
    id: str | None = None


@dataclass(eq=False)
class Budget:
    """`used` by the start of the window; None: the one of a run."""

    interval: str
    limit: Decimal
    entity: Entity | None
    used: dict[datetime | None, Decimal] = field(default_factory=dict)
    removed: bool = False


@dataclass(eq=False)
class Deduction:
    """One deduction of check-and-deduct or usage/track: what it took of which grants, in order, and was not given back."""

    entity: Entity | None
    parts: list[tuple[Grant, Decimal]]
    id: str | None = None


@dataclass(eq=False)
class PlanGrant:
    """`interval` None: once for ever. `rollover` None: none; its limit None: all that is left."""

    system: str
    amount: Decimal
    interval: str | None
    scope: str = "customer"
    priority: int = 50
    rollover: tuple[Decimal | None] | None = None


@dataclass(eq=False)
class Subscription:
    started_at: datetime
    zone: str
    grants: list[PlanGrant]
    given: set[tuple[Any, ...]] = field(default_factory=set)

    def boundary(self, interval: str, n: int) -> datetime:
        """When the nth period begins: the first at once, all others at the customer's midnight, counted from the first day."""
        if n == 0:
            return self.started_at
        zone = ZoneInfo(self.zone)
        day = self.started_at.astimezone(zone).date()
        if interval == "weekly":
            day += timedelta(weeks=n)
        else:
            years, month = divmod(day.month - 1 + n, 12)
            last = monthrange(day.year + years, month + 1)[1]
            day = day.replace(year=day.year + years, month=month + 1, day=min(day.day, last))
        return datetime.combine(day, time(), zone).astimezone(UTC)

    def period(self, interval: str, at: datetime) -> tuple[datetime, datetime]:
        n = 0
        while self.boundary(interval, n + 1) <= at:
            n += 1
        return self.boundary(interval, n), self.boundary(interval, n + 1)


@dataclass(eq=False)
class Account:
    """A customer's credits of one system. `moves` is its ledger: (type, signed amount)."""

    zone: str
    grants: list[Grant] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    owed: list[Decimal] = field(default_factory=list)
    moves: list[tuple[str, Decimal]] = field(default_factory=list)
    deductions: list[Deduction] = field(default_factory=list)
    spends: list[Spend] = field(default_factory=list)

    def move(self, kind: str, amount: Decimal) -> None:
        self.moves.append((kind, amount))

    def moved(self, *kinds: str) -> Decimal:
        return total(amount for kind, amount in self.moves if kind in kinds)

    @property
    def balance(self) -> Decimal:
        return total(one.left for one in self.grants)

    @property
    def held(self) -> Decimal:
        return total(one.amount for one in self.holds if one.status == "open")

    def of(self, pools: Iterable[Entity | None], now: datetime) -> list[Grant]:
        """What can be spent of these pools, in the order of spending."""
        return [
            one
            for pool in pools
            for one in sorted(self.grants, key=lambda grant: grant.order)
            if one.owner is pool and one.left > 0 and (one.expires_at is None or one.expires_at > now)
        ]

    def available(self, pools: Iterable[Entity | None], now: datetime) -> Decimal:
        return total(one.left for one in self.of(pools, now))

    def expire(self, now: datetime) -> None:
        """What is left of a grant whose time is over is gone."""
        for one in self.grants:
            if one.left > 0 and one.expires_at is not None and one.expires_at <= now:
                one.lapsed = plus(one.lapsed, one.left)
                self.move("expire", -one.left)
                one.left = ZERO

    def put_back(self, hold: Hold, status: str) -> None:
        for grant, amount in hold.parts:
            grant.left = plus(grant.left, amount)
        self.move("release", hold.amount)
        hold.status = status
        self.count(hold, ZERO)

    def count(self, hold: Hold, amount: Decimal) -> None:
        """What a hold has come to, in the windows in which it counts."""
        self.use(hold.windows, plus(amount, -hold.spend.amount))
        hold.spend.amount = amount

    def use(self, windows: "Iterable[tuple[Budget, datetime | None]]", amount: Decimal) -> None:
        for budget, window in windows:
            budget.used[window] = plus(budget.used.get(window, ZERO), amount)

    def windows(self, entity: Entity | None, now: datetime) -> "list[tuple[Budget, datetime | None]]":
        """The windows that spending of this entity counts in, from the entity up to its customer."""
        levels: list[Entity | None] = [*([] if entity is None else entity.chain), None]
        return [
            (budget, window_of(budget.interval, now, self.zone)[0])
            for level in levels
            for budget in self.budgets
            if budget.entity is level and not budget.removed
        ]

    def pay(self, grant: Grant) -> None:
        """What is owed is paid by what has just come, the oldest debt first."""
        while self.owed and grant.left > 0:
            paid = min(self.owed[0], grant.left)
            grant.left = plus(grant.left, -paid)
            self.owed[0] = plus(self.owed[0], -paid)
            self.move("deduct", -paid)
            if not self.owed[0]:
                self.owed.pop(0)


@dataclass(eq=False)
class Customer:
    name: str
    zone: str = "UTC"
    entities: list[Entity] = field(default_factory=list)
    accounts: dict[str, Account] = field(default_factory=dict)
    subscription: Subscription | None = None

    def latest(self, name: str) -> Entity:
        """The newest of this name, deleted or not."""
        for one in reversed(self.entities):
            if one.name == name:
                return one
        raise Refused(404, "entity_not_found")

    def living(self, name: str | None) -> Entity | None:
        if name is None:
            return None
        found = self.latest(name)
        if found.status == "deleted":
            raise Refused(404, "entity_not_found")
        return found

    @property
    def alive(self) -> list[Entity]:
        return [one for one in self.entities if one.status != "deleted"]


def shown_grant(grant: Grant) -> Said:
    return {
        "id": Id(grant),
        "entity_id": grant.owner.name if grant.owner else None,
        "amount": grant.amount,
        "remaining": grant.left,
        "priority": grant.priority,
        "source": grant.source,
        "expires_at": grant.expires_at,
        "created_at": grant.created_at,
    }


def total(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(prec=60):
        return sum(amounts, ZERO)


def plus(one: Decimal, other: Decimal) -> Decimal:
    return total((one, other))


def draw(grants: Sequence[Grant], amount: Decimal) -> tuple[list[tuple[Grant, Decimal]], Decimal]:
    """What `grants`, in this order, pay of an amount, and what they do not."""
    parts = []
    for one in grants:
        taken = min(one.left, amount)
        if taken > 0:
            parts.append((one, taken))
            amount = plus(amount, -taken)
    return parts, amount


def window_of(interval: str, now: datetime, zone: str) -> tuple[datetime | None, datetime | None]:
    """The window of a budget that runs now: its start and its end by the customer's clock on the wall; a run has neither.

    Found by asking every minute what the wall shows, backwards and forwards.
    """
    if interval == "run":
        return None, None

    def shown(at: datetime) -> str:
        form = {"hour": "%Y-%m-%d %H %z", "day": "%Y-%m-%d", "month": "%Y-%m"}[interval]
        return at.astimezone(ZoneInfo(zone)).strftime(form)

    def last(step: timedelta, at: datetime, label: str) -> datetime:
        """The farthest instant in this direction that still shows the label."""
        for size in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=15)):
            move = size if step > timedelta(0) else -size
            while shown(at + move) == label:
                at += move
        return at

    quarter = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
    label = shown(now)
    return last(timedelta(-1), quarter, label), last(timedelta(1), quarter, label) + timedelta(minutes=15)
