"""Granting credits, and what becomes of grants in time. Each locks the account first, then decides."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.core.errors import InvalidInput, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits import book_store, giving, store
from nozle_server.credits.model import Grant, GrantSource
from nozle_server.infra import due
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx

EXPIRE_GRANT = "expire_grant"


async def grant_credits(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    amount: Decimal,
    source: GrantSource,
    now: datetime,
    expires_at: datetime | None = None,
    priority: int = 50,
    reference: str | None = None,
    description: str | None = None,
    credit_system: str = DEFAULT_CREDIT_SYSTEM,
    entity_id: UUID | None = None,
    entity: str | None = None,
) -> tuple[Grant, Decimal]:
    """Give `amount` credits, to the customer or to one of its entities; the grant and the account's balance after it.

    With a `reference` a repeat finds the first grant and gives nothing more. What the account owes is paid of it first.
    `entity_id` is an entity whose state the caller answers for; `entity` the merchant's id of one that may spend: NotFound
    `entity_not_found`, RuleBroken `entity_inactive`. InvalidInput for an expiry that has passed.
    """
    account_id = await book_store.ensure_account(tx, org_id, customer_id, credit_system, new_id(), now)
    [book] = await book_store.lock(tx, org_id, [account_id], () if entity is None else (entity,))
    if reference is not None:
        known = await store.find_grant_by_reference(tx, org_id, account_id, reference)
        if known is not None:
            book.advance(now)
            await book_store.save(tx, bus, [book])
            return replace(known, remaining=book.left(known.id)), book.balance
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("expires_at lies in the past", details={"expires_at": ["value_is_out_of_range"]})
    # Looked at with the account in hand: whoever suspends it takes its credits from it after this, or has done so.
    level = book.level(entity)
    if level is not None and not level.active:
        raise RuleBroken("the entity may not spend", code="entity_inactive")
    grant = giving.a_grant(
        amount,
        source,
        now,
        priority=priority,
        reference=reference,
        description=description,
        expires_at=expires_at,
        entity_id=entity_id if level is None else level.id,
    )
    giving.give(book, grant, now)
    await book_store.save(tx, bus, [book])
    await schedule_expiry(tx, org_id, grant, now)
    return replace(grant, remaining=book.left(grant.id)), book.balance


async def roll_over(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    reference_of_old: str,
    reference: str,
    limit: Decimal | None,
    expires_at: datetime,
    now: datetime,
) -> Grant | None:
    """Carry what was left of the grant `reference_of_old` at its end over into a new grant, at most `limit` (None: all of
    it). None when nothing was left, there is no such grant, or it was done before.

    Call it when the old grant's time is over. Whoever came first may have written it off already: what it expired with
    is what was left.
    """
    account_id = await book_store.ensure_account(tx, org_id, customer_id, credit_system, new_id(), now)
    [book] = await book_store.lock(tx, org_id, [account_id])
    old = await store.find_grant_by_reference(tx, org_id, account_id, reference_of_old)
    if old is None or await store.find_grant_by_reference(tx, org_id, account_id, reference) is not None:
        return None
    giving.end(book, old.id, now)
    written_off = await store.expired_of(tx, org_id, account_id, old.id)
    left = EXACT.add(old.remaining, written_off)
    carried = left if limit is None else min(left, limit)
    grant = None
    if carried > 0:
        grant = giving.a_grant(
            carried,
            GrantSource.ROLLOVER,
            now,
            priority=old.priority,
            reference=reference,
            description=old.description,
            expires_at=expires_at,
            entity_id=old.entity_id,
        )
        giving.give(book, grant, now)
    await book_store.save(tx, bus, [book])
    if grant is not None:
        await schedule_expiry(tx, org_id, grant, now)
    return grant


async def expire_grant(tx: Tx, bus: ChangeBus, *, org_id: UUID, grant_id: UUID, now: datetime) -> None:
    """What falls due when a grant's time is over; harmless when it was spent or has expired already."""
    found = await store.find_grant(tx, org_id, grant_id)
    if found is not None:
        await advance(tx, bus, org_id=org_id, account_id=found[0], now=now)


async def advance(tx: Tx, bus: ChangeBus, *, org_id: UUID, account_id: UUID, now: datetime) -> None:
    """Write off what has expired of an account, and release its holds whose time is over."""
    [book] = await book_store.lock(tx, org_id, [account_id])
    book.advance(now)
    await book_store.save(tx, bus, [book])


async def touch_accounts(tx: Tx, org_id: UUID, customer_id: UUID) -> None:
    """Something that decides over a customer's accounts has changed outside of them: an entity, its time zone, its end."""
    await book_store.touch(tx, org_id, customer_id)


async def schedule_expiry(tx: Tx, org_id: UUID, grant: Grant, now: datetime) -> None:
    """Have a new grant written off when its time is over."""
    """Have a grant written off when its time is over."""
    if grant.expires_at is not None:
        await due.schedule(
            tx, org_id=org_id, kind=EXPIRE_GRANT, subject_id=grant.id, due_at=grant.expires_at, now=now
        )
