"""Credits set aside in advance for somebody who may be cut off, and taken by what was given away meanwhile.

One hold at a time stands behind one promise. It is renewed by another that lasts longer; while it lasts long enough, and
nothing of it was spent, it stays, so that renewing often writes nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.rounding import EXACT
from nozle_server.credits import holding
from nozle_server.credits.book import Book
from nozle_server.credits.holding import Holding, Settling
from nozle_server.credits.model import ZERO, EntryType, Hold
from nozle_server.credits.spending import Spending


@dataclass(frozen=True, slots=True)
class Promise:
    """What is wanted: up to `amount` credits for a feature, held until `needed_until` at least and `expires_at` at most."""

    feature: str
    amount: Decimal
    needed_until: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of what was spent, and what of that neither hold nor balance covered: that much is lost."""

    settled: Decimal
    uncovered: Decimal


def find(book: Book, hold_id: UUID, now: datetime) -> Hold | None:
    """A hold that is open at `now`."""
    book.advance(now)
    return book.holds.get(hold_id)


def stands(book: Book, hold_id: UUID, spent: Decimal, promise: Promise | None, now: datetime) -> bool:
    """Whether a hold may stay as it is."""
    held = find(book, hold_id, now)
    if held is None or promise is None or spent:
        return False
    return held.amount == promise.amount and held.expires_at >= promise.needed_until


def take(book: Book, hold_id: UUID, feature: str, spent: Decimal, now: datetime) -> Taken:
    """End a hold with what was spent of it; 0 releases it. Of one that is over by now, what was spent is taken of the
    balance. Nothing goes below zero, and nothing is owed."""
    book.advance(now)
    if hold_id in book.holds and not spent:
        holding.release(book, hold_id, now)
        return Taken(ZERO, ZERO)
    if hold_id in book.holds:
        settled = holding.settle(book, Settling(hold_id, spent), now).settled
    else:
        draws, missing = book.draw(book.pools(None), spent)
        settled = EXACT.subtract(spent, missing)
        if settled:
            book.take(EntryType.DEDUCT, draws, now, feature=feature)
            book.use(book.usage.windows(None, now), settled)
    return Taken(settled, EXACT.subtract(spent, settled))


def set_aside(book: Book, promise: Promise, now: datetime) -> Hold | None:
    """Hold as much of what is wanted as there is and as every budget leaves; None where that is nothing."""
    amount = promise.amount
    while amount > 0:
        held = holding.hold(book, Holding(Spending(amount, promise.feature), promise.expires_at), now)
        if held.hold is not None:
            return held.hold
        left = held.remaining
        if held.budget is not None:
            left = EXACT.subtract(held.budget.budget.limit, held.budget.used)
        assert left < amount, "what refuses leaves less than was asked for"
        amount = left
    return None
