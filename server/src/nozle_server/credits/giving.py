"""Granting, and what undoes or moves what was granted. Each is a new entry: nothing written is ever changed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits.book import Book
from nozle_server.credits.burndown import Pool, burn_order, draw_up_to
from nozle_server.credits.model import ZERO, Draw, Entry, EntryType, Grant, GrantSource

PAYS_RECEIVABLE = "Pays what was settled beyond the balance"


def give(book: Book, grant: Grant, now: datetime, *, kind: EntryType = EntryType.GRANT) -> Entry:
    """Add a new grant. What the account still owes is paid of it first, where it is the customer's; the entry returned
    is that of the grant."""
    book.advance(now)
    entry = book.put(kind, [grant], now, grant.description)
    if grant.entity_id is None:
        _pay_receivables(book, grant, now)
    return entry


def void(book: Book, grant_id: UUID, amount: Decimal | None, now: datetime) -> Entry | None:
    """Take `amount`, or all that is left, out of one grant for nothing; None, and nothing is taken, when it holds
    less, or nothing at all."""
    book.advance(now)
    left = book.left(grant_id)
    wanted = left if amount is None else amount
    if not wanted or wanted > left:
        return None
    terms = book.grant(grant_id)
    assert terms is not None, "something is left of it"
    return book.take(
        EntryType.VOID,
        [Draw(grant_id, wanted)],
        now,
        description=terms.description,
        entity_id=terms.entity_id,
    )


def end(book: Book, grant_id: UUID, now: datetime) -> None:
    """Let a grant expire now."""
    left, terms = book.left(grant_id), book.grant(grant_id)
    if left and terms is not None:
        book.take(
            EntryType.EXPIRE,
            [Draw(grant_id, left)],
            now,
            description=terms.description,
            entity_id=terms.entity_id,
        )


def plan_refund(
    refundable: Sequence[tuple[Grant, Decimal]], pools: Sequence[Pool], amount: Decimal | None
) -> tuple[tuple[Draw, ...], Decimal]:
    """How much of `amount`, or of all that can be given back, goes back to which grant, and what cannot: what was drawn last
    goes back first. `pools` are those that were drawn on, the first first."""
    place = {pool: number for number, pool in enumerate(pools)}
    drawn = sorted(
        (pair for pair in refundable if pair[1] > 0),
        # One that is none of the pools any more stood above them, and below the customer's.
        key=lambda pair: (place.get(pair[0].entity_id, len(pools) - 1.5), burn_order(pair[0])),
    )
    wanted = amount
    if wanted is None:
        wanted = ZERO
        for _, left in drawn:
            wanted = EXACT.add(wanted, left)
    return draw_up_to((replace(grant, remaining=left) for grant, left in reversed(drawn)), wanted)


def refund(book: Book, spent: Entry, draws: Sequence[Draw], now: datetime, description: str | None) -> Entry:
    """Give back what a deduction took, to the grants that it was taken of. What belongs to a grant that has expired
    meanwhile is written off in the next entry."""
    book.advance(now)
    entry = book.put_back(
        EntryType.REFUND,
        draws,
        now,
        feature=spent.feature,
        description=description,
        entity_id=spent.entity_id,
        refunds_id=spent.id,
    )
    book.advance(now)
    return entry


def correct(book: Book, amount: Decimal, now: datetime, *, description: str | None) -> Entry | None:
    """Add a positive `amount`, or take a negative one of the customer's grants; None, and nothing is taken, when they
    hold less."""
    book.advance(now)
    if amount > 0:
        made = a_grant(amount, GrantSource.ADJUSTMENT, now, description=description)
        return give(book, made, now, kind=EntryType.ADJUSTMENT)
    draws, missing = book.draw((None,), amount.copy_negate())
    if missing:
        return None
    return book.take(EntryType.ADJUSTMENT, draws, now, description=description)


def transfer(
    source: Book,
    target: Book,
    amount: Decimal,
    now: datetime,
    *,
    description: str | None = None,
) -> tuple[Entry, Entry] | None:
    """Move credits between two customers' own pools, each with the priority and expiry that they have; None, and
    nothing is moved, when there are not enough."""
    source.advance(now)
    target.advance(now)
    draws, missing = source.draw((None,), amount)
    if missing:
        return None
    parts = [
        a_grant(
            draw.amount,
            GrantSource.TRANSFER,
            now,
            priority=terms.priority,
            expires_at=terms.expires_at,
            description=description or terms.description,
        )
        for draw, terms in _terms(source, draws)
    ]
    taken = source.take(EntryType.TRANSFER, draws, now, description=description)
    given = target.put(EntryType.TRANSFER, parts, now, description)
    for part in parts:
        _pay_receivables(target, part, now)
    return taken, given


def allocate(
    book: Book, entity_id: UUID, amount: Decimal, now: datetime
) -> tuple[Entry, Entry, tuple[Draw, ...], list[Grant]] | None:
    """Give an entity of the customer's own top-ups; only what was bought can be moved. None, and nothing is moved, when
    they hold less. The entry that takes, the one that gives, what it took of which grants, and the entity's grants."""
    book.advance(now)
    bought = [one for one in book.grants(None) if one.source is GrantSource.TOP_UP]
    draws, missing = book.draw_on((one.id for one in bought), amount)
    if missing:
        return None
    parts = [
        replace(
            a_grant(
                draw.amount,
                GrantSource.ALLOCATION,
                now,
                priority=terms.priority,
                expires_at=terms.expires_at,
                description=terms.description,
            ),
            entity_id=entity_id,
            parent_id=terms.id,
        )
        for draw, terms in _terms(book, draws)
    ]
    taken = book.take(EntryType.TRANSFER, draws, now, entity_id=entity_id)
    return taken, book.put(EntryType.TRANSFER, parts, now, None), draws, parts


def take_back(
    book: Book, entity_id: UUID, amount: Decimal | None, now: datetime
) -> tuple[Entry, Entry, tuple[Draw, ...], tuple[Draw, ...]] | None:
    """Return allocated top-ups, `amount` or all, to the grants that they came from; None, and nothing is moved, when
    the entity has less of them left, or nothing. The entries as of `allocate`, and the draws of the entity's grants and
    into the customer's.

    The parents of the entity's allocations must be known to the book.
    """
    book.advance(now)
    allocated = [one for one in book.grants(entity_id) if one.source is GrantSource.ALLOCATION]
    wanted = amount
    if wanted is None:
        wanted = ZERO
        for one in allocated:
            wanted = EXACT.add(wanted, book.left(one.id))
    draws, missing = book.draw_on((one.id for one in allocated), wanted)
    if missing or not draws:
        return None
    back: dict[UUID, Decimal] = {}
    for draw, terms in _terms(book, draws):
        assert terms.parent_id is not None, "an allocation names the top-up that it came from"
        back[terms.parent_id] = EXACT.add(back.get(terms.parent_id, ZERO), draw.amount)
    returned = tuple(Draw(grant_id, part) for grant_id, part in back.items())
    taken = book.take(EntryType.TRANSFER, draws, now, entity_id=entity_id)
    given = book.put_back(EntryType.TRANSFER, returned, now, entity_id=entity_id)
    book.advance(now)
    return taken, given, draws, returned


def close_entity(book: Book, entity_id: UUID, now: datetime) -> None:
    """What an entity's end brings: its allocated top-ups return, its other grants expire. Open holds stay, and what they
    give back comes to nobody but the entity."""
    take_back(book, entity_id, None, now)
    for grant in book.grants(entity_id):
        end(book, grant.id, now)


def a_grant(
    amount: Decimal,
    source: GrantSource,
    now: datetime,
    *,
    priority: int = 50,
    reference: str | None = None,
    description: str | None = None,
    expires_at: datetime | None = None,
    entity_id: UUID | None = None,
) -> Grant:
    """A new grant, all of it left."""
    return Grant(
        new_id(), amount, amount, priority, source, reference, description, expires_at, now, entity_id
    )


def _terms(book: Book, draws: Sequence[Draw]) -> list[tuple[Draw, Grant]]:
    paired = []
    for draw in draws:
        terms = book.grant(draw.grant_id)
        assert terms is not None, "what was drawn on is known"
        paired.append((draw, terms))
    return paired


def _pay_receivables(book: Book, grant: Grant, now: datetime) -> None:
    """Pay what is owed, the oldest first, of a grant that has just come."""
    for owed in list(book.receivables):
        left = book.left(grant.id)
        if not left:
            return
        paid = min(left, owed.open)
        book.take(
            EntryType.DEDUCT,
            [Draw(grant.id, paid)],
            now,
            feature=owed.feature,
            description=PAYS_RECEIVABLE,
            entity_id=owed.entity_id,
            hold_id=owed.hold_id,
        )
        book.receivable = EXACT.subtract(book.receivable, paid)
        book.changes.paid[owed.id] = EXACT.add(book.changes.paid.get(owed.id, ZERO), paid)
        book.receivables.remove(owed)
        if paid < owed.open:
            book.receivables.insert(0, replace(owed, open=EXACT.subtract(owed.open, paid)))
