"""Top-ups that a customer gives to one of its entities, and takes back."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits import book_store, giving, store, usage_store
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Draw, GrantSource, Refusal
from nozle_server.credits.usage_model import OperationType, SourceMove, UsageOperation
from nozle_server.entities.model import EntityStatus
from nozle_server.entities.queries import get_entity
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx


class Direction(StrEnum):
    """To an entity, or back from it."""

    ALLOCATION = "allocation"
    DEALLOCATION = "deallocation"


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer did to the customer's grants and to the entity's, or why nothing was moved. `available` is what can
    still be moved in this direction; `operation_id` the entry that took it, or the denial."""

    operation_id: UUID
    available: Decimal
    reason: Refusal | None = None
    parents: tuple[SourceMove, ...] = ()
    own: tuple[SourceMove, ...] = ()


async def transfer_credits(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    entity: str,
    credit_system: str,
    direction: Direction,
    amount: Decimal,
    now: datetime,
) -> Transfer:
    """Give top-ups of the customer's to its entity with this external id, or return them to the grants they came from.

    Only what was bought can be moved; all of `amount` or nothing. NotFound `entity_not_found`.
    """
    account_id = await store.find_account_id(tx, org_id, customer_id, credit_system)
    book = None
    if account_id is not None:
        [book] = await book_store.lock(tx, org_id, [account_id])
        book.advance(now)
    # Looked at with the account in hand: whoever suspends it takes its credits from it after this, or has done so.
    found = await get_entity(tx, org_id, customer_id, entity)
    moved = None
    if book is not None and found.status is EntityStatus.ACTIVE:
        if direction is Direction.ALLOCATION:
            moved = _allocate(book, found.id, amount, now)
        else:
            book.know_spent(await store.list_parents(tx, org_id, book.account.id, [found.id]))
            moved = _take_back(book, found.id, amount, now)
    if book is not None:
        await book_store.save(tx, bus, [book])
    if moved is not None:
        return moved
    inactive = found.status is not EntityStatus.ACTIVE
    denial = UsageOperation(
        org_id=org_id,
        id=new_id(),
        customer_id=customer_id,
        credit_system=credit_system,
        type=OperationType.TRANSFER,
        reason=Refusal.ENTITY_INACTIVE if inactive else Refusal.INSUFFICIENT_CREDITS,
        entity_id=found.id,
        rate=None,
        credit_amount=amount,
        occurred_at=now,
        created_at=now,
    )
    await usage_store.insert(tx, denial)
    return Transfer(
        denial.id,
        ZERO if book is None or inactive else _movable(book, found.id, direction),
        Refusal(denial.reason) if denial.reason else None,
    )


def _allocate(book: Book, entity_id: UUID, amount: Decimal, now: datetime) -> Transfer | None:
    done = giving.allocate(book, entity_id, amount, now)
    if done is None:
        return None
    taken, _, draws, parts = done
    return Transfer(
        taken.id,
        _movable(book, entity_id, Direction.ALLOCATION),
        parents=_taken(book, draws),
        own=tuple(SourceMove(part, ZERO, part.amount, created=True) for part in parts),
    )


def _take_back(book: Book, entity_id: UUID, amount: Decimal, now: datetime) -> Transfer | None:
    done = giving.take_back(book, entity_id, amount, now)
    if done is None:
        return None
    taken, _, draws, returned = done
    return Transfer(
        taken.id,
        _movable(book, entity_id, Direction.DEALLOCATION),
        parents=_taken(book, (Draw(draw.grant_id, draw.amount.copy_negate()) for draw in returned)),
        own=_taken(book, draws),
    )


def _taken(book: Book, draws: Iterable[Draw]) -> tuple[SourceMove, ...]:
    moves = []
    for draw in draws:
        grant, after = book.grant(draw.grant_id), book.left(draw.grant_id)
        assert grant is not None, "what was moved is known"
        moves.append(SourceMove(grant, EXACT.add(after, draw.amount), after))
    return tuple(moves)


def _movable(book: Book, entity_id: UUID, direction: Direction) -> Decimal:
    pool, source = (
        (None, GrantSource.TOP_UP)
        if direction is Direction.ALLOCATION
        else (entity_id, GrantSource.ALLOCATION)
    )
    total = ZERO
    for grant in book.grants(pool):
        if grant.source is source:
            total = EXACT.add(total, book.left(grant.id))
    return total
