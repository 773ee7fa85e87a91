"""Hold, then settle: credits are set aside before the work, and taken by what it came to.

What is held leaves the balance at once, so nothing else can spend it. Settling puts it back and deducts what was used,
first of the grants that were held, whose expiry meanwhile does not matter; then of the balance; what is left after that
is kept as a receivable, up to a limit. A hold that nobody settles is released when its time is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.errors import Conflict
from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits.book import Book
from nozle_server.credits.burndown import Pool
from nozle_server.credits.model import ZERO, Draw, EntryType, Held, Hold, HoldStatus, Receivable, Settlement
from nozle_server.credits.spending import Spending, allow


@dataclass(frozen=True, slots=True)
class Holding:
    """What is asked for: to set an amount aside until `expires_at`."""

    spending: Spending
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Settling:
    """What a hold is settled for, and how much of that may stay uncovered."""

    hold_id: UUID
    amount: Decimal
    uncovered_limit: Decimal = ZERO


class HoldEnded(Conflict):
    """The hold is not open (any more)."""

    default_code = "hold_ended"


def hold(book: Book, asked: Holding, now: datetime) -> Held:
    """Set the amount aside if it could be deducted now. NotFound `entity_not_found`."""
    spending = asked.spending
    allowance = allow(book, spending, now)
    if allowance.reason is not None:
        return Held(None, book.available(allowance.pools), allowance.reason, allowance.budget)
    level = allowance.level
    draws, _ = book.draw(allowance.pools, spending.amount)
    made = Hold(
        id=new_id(),
        amount=spending.amount,
        feature=spending.feature,
        entity_id=None if level is None else level.id,
        expires_at=asked.expires_at,
        created_at=now,
        draws=draws,
        pools=allowance.pools,
        windows=book.usage.windows(level, now),
    )
    book.take(EntryType.HOLD, draws, now, feature=made.feature, entity_id=made.entity_id, hold_id=made.id)
    book.use(made.windows, made.amount)
    book.open_hold(made)
    return Held(made, book.available(allowance.pools))


def settle(book: Book, asked: Settling, now: datetime) -> Settlement:
    """Take what was used, at most hold, balance and `uncovered_limit` together. HoldEnded."""
    held = _open(book, asked.hold_id, now)
    book.put_back(
        EntryType.RELEASE,
        held.draws,
        now,
        feature=held.feature,
        entity_id=held.entity_id,
        hold_id=held.id,
    )
    within, beyond = book.draw_on((draw.grant_id for draw in held.draws), min(asked.amount, held.amount))
    assert not beyond, "what was held is there"
    covered = list(within)
    beyond = EXACT.subtract(asked.amount, min(asked.amount, held.amount))
    if beyond:
        # Nothing but the hold's own is taken of a grant that is over, or was drawn on already.
        reserved = {draw.grant_id: draw.amount for draw in within}
        more, beyond = _draw_beyond(book, held.pools, reserved, beyond, now)
        covered = _merged([*within, *more])
    if covered:
        book.take(
            EntryType.DEDUCT,
            covered,
            now,
            feature=held.feature,
            entity_id=held.entity_id,
            hold_id=held.id,
        )
    uncovered = min(beyond, asked.uncovered_limit)
    settled = EXACT.subtract(asked.amount, EXACT.subtract(beyond, uncovered))
    if uncovered:
        book.receivable = EXACT.add(book.receivable, uncovered)
        owed = Receivable(new_id(), held.id, held.feature, held.entity_id, uncovered)
        book.receivables.append(owed)
        book.changes.owed.append((owed.id, held.id, uncovered, now))
    book.use(held.windows, EXACT.subtract(settled, held.amount))
    book.end_hold(held, HoldStatus.SETTLED, Settlement(settled, uncovered, ZERO), now)
    book.advance(now)
    return Settlement(settled, uncovered, book.available(held.pools))


def release(book: Book, hold_id: UUID, now: datetime) -> Settlement:
    """Put back all that was held. HoldEnded."""
    held = _open(book, hold_id, now)
    book.release(held, HoldStatus.RELEASED, now)
    book.advance(now)
    return Settlement(ZERO, ZERO, book.available(held.pools))


def _open(book: Book, hold_id: UUID, now: datetime) -> Hold:
    book.advance(now)
    held = book.holds.get(hold_id)
    if held is None:
        raise HoldEnded("the hold is no longer open")
    return held


def _draw_beyond(
    book: Book, pools: Sequence[Pool], reserved: dict[UUID, Decimal], amount: Decimal, now: datetime
) -> tuple[list[Draw], Decimal]:
    draws: list[Draw] = []
    for grant in book.grants(*pools):
        if not amount:
            break
        if grant.expires_at is not None and grant.expires_at <= now:
            continue
        taken = min(EXACT.subtract(book.left(grant.id), reserved.get(grant.id, ZERO)), amount)
        if taken > 0:
            draws.append(Draw(grant.id, taken))
            amount = EXACT.subtract(amount, taken)
    return draws, amount


def _merged(draws: Sequence[Draw]) -> list[Draw]:
    """One draw a grant."""
    by_grant: dict[UUID, Decimal] = {}
    for draw in draws:
        by_grant[draw.grant_id] = EXACT.add(by_grant.get(draw.grant_id, ZERO), draw.amount)
    return [Draw(grant_id, amount) for grant_id, amount in by_grant.items()]
