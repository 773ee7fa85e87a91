"""Budgets: how much may be spent within a run, an hour, a day or a month, at every level above an entity.

Hours, days and months are those of the customer's clock on the wall, and half-open. A window is known by its start.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import ZERO, Budget, BudgetInterval, Level, RefusedBudget

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
"""The start of the one window of a `run`."""


@lru_cache(maxsize=4096)
def window_of(interval: BudgetInterval, hour: datetime, timezone: str) -> tuple[datetime, datetime | None]:
    """The window that the minute `hour` falls in: its first instant, and the first after it (None: it has no end)."""
    zone = ZoneInfo(timezone)
    local = hour.astimezone(zone)
    match interval:
        case BudgetInterval.RUN:
            return ALWAYS, None
        case BudgetInterval.HOUR:
            # Counted from the instant and not from the wall, where an hour comes twice in autumn.
            start = hour - timedelta(minutes=local.minute)
            return start, start + timedelta(hours=1)
        case BudgetInterval.DAY:
            first = local.replace(hour=0, minute=0, fold=0, tzinfo=None)
            following = first + timedelta(days=1)
        case BudgetInterval.MONTH:
            first = local.replace(day=1, hour=0, minute=0, fold=0, tzinfo=None)
            following = (first + timedelta(days=32)).replace(day=1)
    return first.replace(tzinfo=zone).astimezone(UTC), following.replace(tzinfo=zone).astimezone(UTC)


class Usage:
    """What the windows of some budgets have been used for."""

    def __init__(
        self, timezone: str, budgets: Iterable[Budget], used: Mapping[tuple[UUID, datetime], Decimal]
    ) -> None:
        self.timezone = timezone
        self._used = dict(used)
        self._budgets: dict[UUID | None, list[Budget]] = {}
        for budget in sorted(budgets, key=lambda one: one.id):
            self._budgets.setdefault(budget.entity_id, []).append(budget)

    def find(self, entity_id: UUID | None, interval: BudgetInterval) -> Budget | None:
        """The budget of this level and interval."""
        for budget in self._budgets.get(entity_id, ()):
            if budget.interval is interval:
                return budget
        return None

    def of(self, entity_id: UUID | None) -> list[Budget]:
        """The budgets of one level, by interval from the shortest to the longest."""
        order = (BudgetInterval.HOUR, BudgetInterval.DAY, BudgetInterval.MONTH, BudgetInterval.RUN)
        return sorted(self._budgets.get(entity_id, ()), key=lambda one: order.index(one.interval))

    def used(self, budget: Budget, now: datetime) -> Decimal:
        """What the window that `now` falls in has been used for."""
        return self._used.get((budget.id, self.window(budget, now)[0]), ZERO)

    def windows(self, level: Level | None, now: datetime) -> tuple[tuple[UUID, datetime], ...]:
        """The windows in which spending by this entity counts: its own, its parents', its customer's."""
        if not self._budgets:
            return ()
        return tuple(
            (budget.id, self.window(budget, now)[0])
            for owner, _ in _owners(level)
            for budget in self._budgets.get(owner, ())
        )

    def refusing(self, level: Level | None, amount: Decimal, now: datetime) -> RefusedBudget | None:
        """The first budget, from the entity up to its customer, that `amount` more would exceed."""
        if not self._budgets:
            return None
        for owner, name in _owners(level):
            for budget in self._budgets.get(owner, ()):
                start, end = self.window(budget, now)
                used = self._used.get((budget.id, start), ZERO)
                if EXACT.add(used, amount) > budget.limit:
                    return RefusedBudget(budget, name, used, end)
        return None

    def add(self, window: tuple[UUID, datetime], amount: Decimal) -> None:
        """Count `amount` in a window."""
        self._used[window] = EXACT.add(self._used.get(window, ZERO), amount)

    def window(self, budget: Budget, now: datetime) -> tuple[datetime, datetime | None]:
        """The window of a budget that `now` falls in."""
        return window_of(budget.interval, now.replace(second=0, microsecond=0), self.timezone)


def _owners(level: Level | None) -> tuple[tuple[UUID | None, str | None], ...]:
    if level is None:
        return ((None, None),)
    return ((level.id, level.external_id), *level.above, (None, None))
