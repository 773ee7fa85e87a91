"""Books and their accounts: locked, loaded, made and saved.

Whoever changes an account updates its row, which raises `version` by one. `save` compares versions under the row locks:
a book that was loaded without the lock is written only if nobody has changed its account since. What a book is read from
is said in `book_rows`; how it is written in `entry_writes` and `book_writes`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.core.errors import Unavailable
from nozle_server.credits.book import Book
from nozle_server.credits.book_rows import ACCOUNT_OF_A, LEVELS, PARTS, book_from_row
from nozle_server.credits.book_writes import insert_grants, write_rest
from nozle_server.credits.entry_writes import prepare, write
from nozle_server.credits.events import publications
from nozle_server.credits.model import AccountKind
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import LOCK_TIMEOUT_MS, TakenMeanwhile, Tx, tell_after_commit


@dataclass(frozen=True, slots=True)
class Loaded:
    """What there is for one customer and credit system: whether the customer exists, and the book of an account; with the
    version of the organization's systems and its test clock at that moment."""

    known: bool
    book: Book | None
    systems_version: int
    test_now: datetime | None


async def load(tx: Tx, org_id: UUID, wanted: Sequence[tuple[str, str, Iterable[str]]]) -> list[Loaded]:
    """The books of (the merchant's id of a customer, credit system, entities), in the order asked, as of one moment
    and without a lock."""
    rows = await tx.fetch(
        f"""
        select wanted.place, c.id as known, o.credits_version, o.test_now, {ACCOUNT_OF_A}, {PARTS}
        from jsonb_to_recordset($2) as wanted (place int, customer text, system text, entities text[])
        join organizations o on o.id = $1
        left join customers c on c.org_id = o.id and c.external_id = wanted.customer and c.deleted_at is null
        left join credit_accounts a on a.org_id = o.id and a.customer_id = c.id
            and a.credit_system = wanted.system and a.kind = 'credits'
        {LEVELS}
        order by wanted.place
        """,
        org_id,
        [
            {"place": place, "customer": customer, "system": system, "entities": list(entities)}
            for place, (customer, system, entities) in enumerate(wanted)
        ],
    )
    assert len(rows) == len(wanted), "each is somebody's or nobody's, and the organization exists"
    return [
        Loaded(
            row["known"] is not None,
            None if row["id"] is None else book_from_row(row, wanted[row["place"]][2]),
            row["credits_version"],
            row["test_now"],
        )
        for row in rows
    ]


async def lock(tx: Tx, org_id: UUID, account_ids: Iterable[UUID], entities: Iterable[str] = ()) -> list[Book]:
    """The books of accounts, held until the transaction ends, in order of id: two that lock the same ones never wait for
    each other."""
    ids, names = sorted(account_ids), list(entities)
    try:
        # The lock timeout begins anew with each row, and in a queue for one row with each place in it.
        await tx.execute(
            "select from credit_accounts where org_id = $1 and id = any($2) order by id for no key update",
            org_id,
            ids,
            timeout=LOCK_TIMEOUT_MS / 1000,
        )
    except TimeoutError:
        raise Unavailable(
            "another request holds what this one needs, try again", code="lock_timeout"
        ) from None
    # A statement of its own: one that waits for a lock would see the other rows as they were before.
    rows = await tx.fetch(
        f"""
        select {ACCOUNT_OF_A}, {PARTS}
        from credit_accounts a
        join organizations o on o.id = a.org_id
        join customers c on c.org_id = a.org_id and c.id = a.customer_id
        cross join (select $3::text[] as entities) wanted
        {LEVELS}
        where a.org_id = $1 and a.id = any($2) order by a.id
        """,
        org_id,
        ids,
        names,
    )
    assert len(rows) == len(ids), "accounts are never deleted"
    return [book_from_row(row, names) for row in rows]


async def find_account_ids(
    tx: Tx, org_id: UUID, wanted: Sequence[tuple[str, str]]
) -> list[tuple[UUID | None, UUID | None]]:
    """(customer's id, account's id) of each (the merchant's id of a customer, credit system); None where there is none."""
    rows = await tx.fetch(
        """
        select c.id as customer_id, a.id as account_id
        from unnest($2::text[], $3::text[]) with ordinality as wanted (customer, system, place)
        left join customers c on c.org_id = $1 and c.external_id = wanted.customer and c.deleted_at is null
        left join credit_accounts a on a.org_id = $1 and a.customer_id = c.id
            and a.credit_system = wanted.system and a.kind = 'credits'
        order by wanted.place
        """,
        org_id,
        [customer for customer, _ in wanted],
        [system for _, system in wanted],
    )
    return [(row["customer_id"], row["account_id"]) for row in rows]


async def ensure_account(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    account_id: UUID,
    now: datetime,
    kind: AccountKind = AccountKind.CREDITS,
) -> UUID:
    """The id of the customer's account of this system; made, under this id, when there is none.

    Who changes what decides over a customer's accounts holds the customer and looks for them then, as when an entity is
    suspended: a new one waits for it, and does not appear behind its back.
    """
    known: UUID | None = await tx.fetchval(
        "select id from credit_accounts where org_id = $1 and customer_id = $2 and credit_system = $3",
        org_id,
        customer_id,
        credit_system,
    )
    if known is not None:
        return known
    await tx.execute(
        "select from customers where org_id = $1 and id = $2 for no key update", org_id, customer_id
    )
    # A statement of its own: it sees what was made while this one waited.
    made: UUID = await tx.fetchval(
        """
        with made as (
            insert into credit_accounts (org_id, id, customer_id, kind, credit_system, created_at)
            values ($1, $2, $3, $4, $5, $6)
            on conflict (org_id, customer_id, credit_system) do nothing
            returning id
        )
        select id from made union all
        select id from credit_accounts where org_id = $1 and customer_id = $3 and credit_system = $5
        """,
        org_id,
        account_id,
        customer_id,
        kind,
        credit_system,
        now,
    )
    return made


async def touch(tx: Tx, org_id: UUID, customer_id: UUID) -> None:
    """Raise the version of all accounts of a customer: something outside them that they are decided by has changed."""
    await tx.execute(
        """
        with held as (select id from credit_accounts where org_id = $1 and customer_id = $2 order by id
            for no key update)
        update credit_accounts a set version = a.version + 1 from held where a.org_id = $1 and a.id = held.id
        """,
        org_id,
        customer_id,
    )


async def save(tx: Tx, bus: ChangeBus, books: Sequence[Book]) -> None:
    """Write what was decided over books that were locked in `tx`."""
    changed = [book for book in books if book.changes.entries or not book.changes.plain]
    if not changed:
        return
    for book in changed:
        book.look()
        await insert_grants(tx, book)
    org_id = changed[0].account.org_id
    written = await write(tx, prepare(bus.origin, org_id, changed, ()))
    if len(written) != len(changed):
        raise TakenMeanwhile
    saved = [(book.account, book.sent()) for book in changed]
    await write_rest(tx, bus.origin, saved)
    for account, changes in saved:
        for publication in publications(account, changes):
            tell_after_commit(tx, publication)
