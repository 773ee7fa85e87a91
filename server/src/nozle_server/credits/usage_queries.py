"""What customers and entities have and did in product credits, as it is shown."""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog.credit_model import CreditSystem
from nozle_server.credits import book_store, usage_store
from nozle_server.credits.book import Book
from nozle_server.credits.burndown import Pool, burn_order, pools_of
from nozle_server.credits.model import ZERO, Grant
from nozle_server.credits.usage_model import CreditOperation, Position
from nozle_server.credits.usage_store import Head
from nozle_server.customers.model import Customer
from nozle_server.entities.model import Entity, EntityStatus
from nozle_server.entities.queries import list_chain
from nozle_server.infra.database import Tx

_NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Source:
    """A grant that something is left of, as it is at the moment; `entity` is the merchant's id of whose it is (None: the
    customer's). `spendable`: it counts to what is available to whoever asked."""

    grant: Grant
    remaining: Decimal
    entity: str | None
    spendable: bool


@dataclass(frozen=True, slots=True)
class SystemBalance:
    """What a customer has of one credit system: its own grants, not those of its entities."""

    system: CreditSystem
    available: Decimal
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class EntityBalance:
    """What an entity has of one credit system: its own and its parents' (`entity_available`), its customer's
    (`shared_available`), and what of both it may spend now."""

    system: CreditSystem
    entity_available: Decimal
    shared_available: Decimal
    effective_available: Decimal
    consumed: Decimal
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """An entity with those above it: whether it may spend, and of whose grants."""

    entity: Entity
    names: dict[UUID, str]
    active: bool
    pools: tuple[Pool, ...]


async def get_chain(tx: Tx, entity: Entity) -> Chain:
    """The entity with those above it; it may spend while all of them are active."""
    chain = await list_chain(tx, entity.org_id, entity.id)
    return Chain(
        entity,
        {one.id: one.external_id for one in chain},
        all(one.status is EntityStatus.ACTIVE for one in chain),
        pools_of(entity.id, (one.id for one in chain[1:]), entity.pool_policy),
    )


async def list_balances(tx: Tx, customer: Customer, now: datetime) -> list[SystemBalance]:
    """Of every system that the customer ever had credits of."""
    found = await usage_store.list_systems_of_customer(tx, customer.org_id, customer.id)
    systems = [system for system, _ in found]
    books = await _books(tx, customer, systems, now)
    return [balance_of(system, book) for system, book in zip(systems, books, strict=True)]


async def get_system_balance(
    tx: Tx, customer: Customer, system: CreditSystem, now: datetime
) -> SystemBalance:
    """Of one system; nothing at all when the customer never had credits of it."""
    [book] = await _books(tx, customer, [system], now)
    return balance_of(system, book)


async def list_entity_balances(
    tx: Tx, customer: Customer, entity: Entity, now: datetime
) -> list[EntityBalance]:
    """Of every system that its customer ever had credits of."""
    found = await usage_store.list_systems_of_customer(tx, customer.org_id, customer.id)
    return await _entity_balances(tx, customer, entity, [system for system, _ in found], now)


async def get_entity_balance(
    tx: Tx, customer: Customer, entity: Entity, system: CreditSystem, now: datetime
) -> EntityBalance:
    """Of one system; nothing at all when the customer never had credits of it."""
    [balance] = await _entity_balances(tx, customer, entity, [system], now)
    return balance


def balance_of(system: CreditSystem, book: Book | None) -> SystemBalance:
    if book is None:
        return SystemBalance(system, ZERO, ())
    return SystemBalance(system, book.available(), tuple(_sources(book, (None,), {}, (None,))))


def entity_balance_of(
    system: CreditSystem, book: Book | None, chain: Chain, consumed: Decimal
) -> EntityBalance:
    if book is None:
        return EntityBalance(system, ZERO, ZERO, ZERO, consumed, ())
    own = tuple(chain.names)
    spent = chain.pools if chain.active else ()
    return EntityBalance(
        system,
        entity_available=book.available(own),
        shared_available=book.available(),
        effective_available=book.available(spent),
        consumed=consumed,
        sources=tuple(_sources(book, (*own, None), chain.names, spent)),
    )


def _sources(
    book: Book, pools: Sequence[Pool], names: dict[UUID, str], spent: Sequence[Pool]
) -> Iterable[Source]:
    """In the order in which they are spent."""
    for pool in pools:
        for grant in sorted(book.grants(pool), key=burn_order):
            name = None if pool is None else names[pool]
            yield Source(grant, book.left(grant.id), name, pool in spent)


async def _entity_balances(
    tx: Tx, customer: Customer, entity: Entity, systems: Sequence[CreditSystem], now: datetime
) -> list[EntityBalance]:
    chain = await get_chain(tx, entity)
    books = await _books(tx, customer, systems, now)
    accounts = [book.account.id for book in books if book is not None]
    consumed = await usage_store.consumed_by(tx, entity.org_id, entity.id, accounts)
    return [
        entity_balance_of(system, book, chain, ZERO if book is None else consumed.get(book.account.id, ZERO))
        for system, book in zip(systems, books, strict=True)
    ]


async def _books(
    tx: Tx, customer: Customer, systems: Sequence[CreditSystem], now: datetime
) -> list[Book | None]:
    if not systems:
        return []
    loaded = await book_store.load(
        tx, customer.org_id, [(customer.external_id, system.code, ()) for system in systems]
    )
    for one in loaded:
        if one.book is not None:
            one.book.advance(now)
    return [one.book for one in loaded]


async def list_operations(
    tx: Tx,
    customer: Customer,
    *,
    credit_system: str | None,
    entity: Entity | None,
    after: Position | None,
    limit: int,
) -> tuple[list[CreditOperation], Position | None]:
    """A page of a customer's operations, or of one entity's, newest first, and where the next page begins (None: there is
    none). In one account they come in the order of its ledger, across accounts by when they were made."""
    org_id = customer.org_id
    entity_id = None if entity is None else entity.id
    accounts = await usage_store.list_accounts(tx, org_id, customer.id, credit_system)
    starts = [_NEWEST] * len(accounts) if after is None else after.sequences
    # An account that was opened since has nothing that is older than what was shown.
    below = list(zip(accounts, starts, strict=False))
    heads = await usage_store.list_heads(tx, org_id, below, entity_id, limit=limit + 1) if below else []
    denials = await usage_store.list_denials(
        tx,
        org_id,
        customer.id,
        credit_system,
        entity_id,
        before=None if after is None else after.denial,
        limit=limit + 1,
    )
    chosen, rest = take_page([*heads, denials], limit)
    found = await usage_store.get_operations(tx, org_id, [head.id for head in chosen])
    shown = [found[head.id] for head in chosen]
    if not any(rest):
        return shown, None
    *left, denied = rest
    return shown, Position(
        denial=UUID(int=denied[0].id.int + 1) if denied else UUID(int=0),
        sequences=tuple(one[0].sequence + 1 if one else 0 for one in left),
    )


def take_page(streams: Sequence[Sequence[Head]], limit: int) -> tuple[list[Head], list[Sequence[Head]]]:
    """The first `limit` of some lists, newest first, and what is left of each list. By id, which tells when it was made,
    but never against the order of a list: nothing is left out where the clocks of two processes differ."""
    numbered = [[(head, number) for head in stream] for number, stream in enumerate(streams)]
    merged = heapq.merge(*numbered, key=lambda one: one[0].id, reverse=True)
    chosen = list(itertools.islice(merged, limit))
    taken = Counter(number for _, number in chosen)
    return [head for head, _ in chosen], [stream[taken[number] :] for number, stream in enumerate(streams)]
