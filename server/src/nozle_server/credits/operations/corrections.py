"""What undoes or moves what was granted and deducted: voids, refunds, corrections, transfers. Each locks its accounts
first, then decides, and writes new entries: nothing written is ever changed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.errors import NotFound, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.credits import book_store, giving, grant_store
from nozle_server.credits.model import Entry, EntryType, Grant
from nozle_server.credits.operations.grants import schedule_expiry
from nozle_server.entities.model import EntityStatus
from nozle_server.entities.queries import list_chain
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx


class NotEnough(RuleBroken):
    """There is less than what should be taken."""

    default_code = "insufficient_credits"


async def void_grant(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    grant_id: UUID,
    amount: Decimal | None,
    now: datetime,
) -> tuple[Entry, Decimal]:
    """Take `amount`, or all that is left, out of a grant for nothing; the entry, and the account's balance after it.

    What is held of it is not left. NotFound `grant_not_found`; RuleBroken `insufficient_credits` when it holds less,
    `nothing_to_void` when nothing is left.
    """
    account_id = await grant_store.find_account_of(tx, org_id, customer_id, grant_id)
    if account_id is None:
        raise NotFound("grant not found", code="grant_not_found")
    [book] = await book_store.lock(tx, org_id, [account_id])
    entry = giving.void(book, grant_id, amount, now)
    if entry is None:
        if not book.left(grant_id):
            raise RuleBroken("nothing is left of the grant", code="nothing_to_void")
        raise NotEnough("the grant holds less than that")
    await book_store.save(tx, bus, [book])
    return entry, book.balance


async def refund_deduction(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    entry_id: UUID,
    amount: Decimal | None,
    description: str | None,
    now: datetime,
) -> tuple[Entry, Decimal]:
    """Give `amount`, or all that was not given back yet, of a deduction back to the grants that it was taken of, what was
    taken last first; the entry, and the account's balance after it.

    What goes back to a grant that has expired, or to an entity that has ended, becomes of it what became of the rest.
    NotFound `transaction_not_found`; RuleBroken `not_refundable` for what is no deduction, `already_refunded` when nothing
    is left to give back, `refund_too_large` for more than that.
    """
    found = await grant_store.find_entry(tx, org_id, customer_id, entry_id)
    if found is None:
        raise NotFound("transaction not found", code="transaction_not_found")
    account_id, spent = found
    if spent.type is not EntryType.DEDUCT:
        raise RuleBroken("only deductions are refunded", code="not_refundable")
    [book] = await book_store.lock(tx, org_id, [account_id])
    # Read with the account in hand: a refund that came first is seen.
    left = dict(await grant_store.list_refundable(tx, org_id, entry_id))
    grants = await grant_store.list_by_id(tx, org_id, left)
    owners = await _ended(tx, org_id, grants)
    parents = {one.parent_id for one in grants if one.parent_id is not None and one.entity_id in owners}
    book.know_spent([*grants, *await grant_store.list_by_id(tx, org_id, parents)])
    pools = await _pools(tx, org_id, spent.entity_id)
    draws, missing = giving.plan_refund([(one, left[one.id]) for one in grants], pools, amount)
    if not draws:
        raise RuleBroken("all of it was given back before", code="already_refunded")
    if missing:
        raise RuleBroken("less than that is left to give back", code="refund_too_large")
    entry = giving.refund(book, spent, draws, now, description)
    for entity_id in owners:
        giving.close_entity(book, entity_id, now)
    await book_store.save(tx, bus, [book])
    return entry, book.balance


async def correct_balance(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    amount: Decimal,
    description: str,
    now: datetime,
) -> tuple[Entry, Decimal]:
    """Add a positive `amount`, or take a negative one of the customer's own grants; the entry, and the account's balance
    after it. RuleBroken `insufficient_credits` when they hold less."""
    account_id = await book_store.ensure_account(tx, org_id, customer_id, credit_system, new_id(), now)
    [book] = await book_store.lock(tx, org_id, [account_id])
    entry = giving.correct(book, amount, now, description=description)
    if entry is None:
        raise NotEnough("the customer has less than that")
    await book_store.save(tx, bus, [book])
    return entry, book.balance


async def transfer_between_customers(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    from_customer_id: UUID,
    to_customer_id: UUID,
    credit_system: str,
    amount: Decimal,
    description: str | None,
    now: datetime,
) -> tuple[tuple[Entry, Decimal], tuple[Entry, Decimal]]:
    """Move credits from one customer's own grants to another customer, with the priorities and expiries that they have;
    of both the entry and the account's balance after it. What the other one owes is paid of them first. RuleBroken
    `insufficient_credits`, `same_customer`."""
    if from_customer_id == to_customer_id:
        raise RuleBroken("both are the same customer", code="same_customer")
    accounts = {
        # In one order, as each that is made is held from then on.
        customer_id: await book_store.ensure_account(tx, org_id, customer_id, credit_system, new_id(), now)
        for customer_id in sorted((from_customer_id, to_customer_id))
    }
    books = {book.account.id: book for book in await book_store.lock(tx, org_id, accounts.values())}
    source, target = books[accounts[from_customer_id]], books[accounts[to_customer_id]]
    moved = giving.transfer(source, target, amount, now, description=description)
    if moved is None:
        raise NotEnough("the customer has less than that")
    made = list(target.changes.granted)
    await book_store.save(tx, bus, [source, target])
    for grant in made:
        await schedule_expiry(tx, org_id, grant, now)
    taken, given = moved
    return (taken, source.balance), (given, target.balance)


async def _ended(tx: Tx, org_id: UUID, grants: Iterable[Grant]) -> list[UUID]:
    """Those of the grants' entities that may not spend any more."""
    ended = []
    for entity_id in sorted({one.entity_id for one in grants if one.entity_id is not None}):
        entity, *_ = await list_chain(tx, org_id, entity_id)
        if entity.status is not EntityStatus.ACTIVE:
            ended.append(entity_id)
    return ended


async def _pools(tx: Tx, org_id: UUID, entity_id: UUID | None) -> Sequence[UUID | None]:
    """Whose grants an entity draws on, the first first."""
    if entity_id is None:
        return (None,)
    return (*(one.id for one in await list_chain(tx, org_id, entity_id)), None)
