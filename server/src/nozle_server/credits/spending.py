"""Deducting: all of an amount, or nothing."""

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from nozle_server.credits.book import Book
from nozle_server.credits.burndown import Pool
from nozle_server.credits.model import Deduction, EntryType, Level, Refusal, RefusedBudget


class Spending(Struct, frozen=True, gc=False):
    """What is asked for: `amount` credits, for a feature, by an entity of the customer's."""

    amount: Decimal
    feature: str | None = None
    entity: str | None = None


class Allowance(Struct, frozen=True):
    """Whether an amount may be spent: by whom and of whose grants; or why not."""

    level: Level | None
    pools: tuple[Pool, ...]
    reason: Refusal | None = None
    budget: RefusedBudget | None = None


def allow(book: Book, asked: Spending, now: datetime) -> Allowance:
    """Whether all levels allow it: the entity is active, the credits cover it, no budget is exceeded. NotFound
    `entity_not_found`."""
    book.advance(now)
    level = book.level(asked.entity)
    pools = book.pools(level)
    if level is not None and not level.active:
        return Allowance(level, pools, Refusal.ENTITY_INACTIVE)
    if book.available(pools) < asked.amount:
        return Allowance(level, pools, Refusal.INSUFFICIENT_CREDITS)
    refusing = book.usage.refusing(level, asked.amount, now)
    if refusing is not None:
        return Allowance(level, pools, Refusal.BUDGET_EXCEEDED, refusing)
    return Allowance(level, pools)


def deduct(book: Book, asked: Spending, now: datetime) -> Deduction:
    """Take the amount if every level allows it, otherwise none. NotFound `entity_not_found`."""
    allowance = allow(book, asked, now)
    pools = allowance.pools
    if allowance.reason is not None:
        return Deduction(False, book.available(pools), None, allowance.reason, allowance.budget)
    draws, _ = book.draw(pools, asked.amount)
    level = allowance.level
    entry = book.take(
        EntryType.DEDUCT,
        draws,
        now,
        feature=asked.feature,
        entity_id=None if level is None else level.id,
    )
    book.use(book.usage.windows(level, now), asked.amount)
    return Deduction(True, book.available(pools), entry, draws=draws)
