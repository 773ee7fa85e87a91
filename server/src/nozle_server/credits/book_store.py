"""Books from their rows, and back: all SQL that locks, loads and writes accounts.

Whoever changes an account updates its row, which raises `version` by one. `save` compares versions under the row locks:
a book that was loaded without the lock is written only if nobody has changed its account since.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.core import json
from nozle_server.core.errors import NotFound, Unavailable
from nozle_server.credits.book import Book, Changes
from nozle_server.credits.model import (
    Account,
    AccountKind,
    Budget,
    BudgetInterval,
    Draw,
    EntryType,
    Grant,
    GrantSource,
    Hold,
    Level,
    Receivable,
)
from nozle_server.credits.watching import Alert, RuleStatus, TopUpRule
from nozle_server.entities.model import PoolPolicy
from nozle_server.infra import arrays, due
from nozle_server.infra.change_bus import Change, ChangeBus, Publication, write_publications
from nozle_server.infra.database import LOCK_TIMEOUT_MS, TakenMeanwhile, Tx, tell_after_commit
from nozle_server.infra.idempotency import Claim

RELEASE_HOLDS = "release_holds"
"""The due item that releases an account's holds whose time is over; its subject is the account."""

_HOLDS_DUE_EVERY = timedelta(seconds=1)

ACCOUNT = """org_id, id, customer_id, kind, credit_system, balance, granted, consumed, expired, voided, held, refunded,
    adjusted, transferred, receivable, last_sequence, version"""

_ANNOUNCED = {
    EntryType.GRANT: "granted",
    EntryType.DEDUCT: "deducted",
    EntryType.EXPIRE: "expired",
    EntryType.VOID: "voided",
    EntryType.HOLD: "held",
    EntryType.RELEASE: "released",
    EntryType.REFUND: "refunded",
    EntryType.ADJUSTMENT: "adjusted",
    EntryType.TRANSFER: "transferred",
}
_ANNOUNCED_SQL = " ".join(f"when '{kind}' then '{name}'" for kind, name in _ANNOUNCED.items())

# What a book is made of, for the account `a` of the customer `c`, and the merchant's ids of entities in `wanted.entities`.
_PARTS = """
    coalesce(c.timezone, o.timezone) as timezone,
    (select json_agg(json_build_object('id', g.id, 'amount', g.amount, 'remaining', g.remaining, 'priority', g.priority,
            'source', g.source, 'reference', g.reference, 'description', g.description, 'expires_at', g.expires_at,
            'created_at', g.created_at, 'entity_id', g.entity_id, 'parent_id', g.parent_id))
        from credit_grants g where g.org_id = a.org_id and g.account_id = a.id and (g.remaining > 0
            or g.id in (select unnest(h.grant_ids) from credit_holds h
                where h.org_id = a.org_id and h.account_id = a.id and h.status = 'open'))) as grants,
    (select json_agg(json_build_object('id', h.id, 'amount', h.amount, 'feature', h.feature, 'entity_id', h.entity_id,
            'expires_at', h.expires_at, 'created_at', h.created_at, 'grant_ids', h.grant_ids,
            'drawn', h.drawn, 'pools', h.pools, 'budget_ids', h.budget_ids,
            'budget_windows', h.budget_windows) order by h.expires_at, h.id)
        from credit_holds h where h.org_id = a.org_id and h.account_id = a.id and h.status = 'open') as holds,
    (select json_agg(json_build_object('id', r.id, 'hold_id', h.id, 'feature', h.feature, 'entity_id', h.entity_id,
            'open', r.amount - r.paid) order by r.id)
        from credit_receivables r join credit_holds h on h.org_id = r.org_id and h.id = r.hold_id
        where r.org_id = a.org_id and r.account_id = a.id and r.paid < r.amount) as receivables,
    (select json_agg(json_build_object('id', b.id, 'entity_id', b.entity_id, 'interval', b.interval,
            'limit', b.limit_amount, 'used', (
                select json_agg(json_build_array(u.window_start, u.used)) from (
                    select window_start, used from credit_budget_usage
                    where org_id = b.org_id and budget_id = b.id order by window_start desc limit 2) u)))
        from credit_budgets b where b.org_id = a.org_id and b.account_id = a.id
            and (b.entity_id is null or b.entity_id = any(levels.ids))) as budgets,
    (select json_agg(json_build_object('code', w.code, 'name', w.name, 'threshold', w.threshold) order by w.code)
        from credit_alerts w where w.org_id = a.org_id and w.account_id = a.id) as alerts,
    (select to_json(t) from credit_top_up_rules t where t.org_id = a.org_id and t.account_id = a.id) as rule,
    levels.chains
"""
# The entities asked for and those above them: each chain from the entity up.
_LEVELS = """
    cross join lateral (
        select array_agg(chain.id) as ids,
            json_agg(json_build_object('asked', chain.asked, 'id', chain.id, 'external_id', chain.external_id,
                'active', chain.active, 'policy', chain.pool_policy) order by chain.asked, chain.depth) as chains
        from (
            with recursive up as (
                select e.external_id as asked, e.id, e.external_id, e.parent_id, e.status = 'active' as active,
                    e.pool_policy, 0 as depth
                from entities e where e.org_id = a.org_id and e.customer_id = a.customer_id
                    and e.external_id = any(wanted.entities) and e.deleted_at is null
                union all
                select up.asked, p.id, p.external_id, p.parent_id, p.status = 'active', p.pool_policy, up.depth + 1
                from up join entities p on p.org_id = a.org_id and p.id = up.parent_id
                where up.depth < 16
            ) select * from up
        ) chain
    ) levels
"""
_ACCOUNT_OF_A = ", ".join(f"a.{name.strip()}" for name in ACCOUNT.split(","))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What there is for one customer and credit system: whether the customer exists, and the book of an account."""

    known: bool
    book: Book | None


async def load(tx: Tx, org_id: UUID, wanted: Sequence[tuple[str, str, Iterable[str]]]) -> list[Loaded]:
    """The books of (the merchant's id of a customer, credit system, entities), in the order asked, as of one moment
    and without a lock."""
    rows = await tx.fetch(
        f"""
        select wanted.place, c.id as known, {_ACCOUNT_OF_A}, {_PARTS}
        from jsonb_to_recordset($2) as wanted (place int, customer text, system text, entities text[])
        join organizations o on o.id = $1
        left join customers c on c.org_id = o.id and c.external_id = wanted.customer and c.deleted_at is null
        left join credit_accounts a on a.org_id = o.id and a.customer_id = c.id
            and a.credit_system = wanted.system and a.kind = 'credits'
        {_LEVELS}
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
            None if row["id"] is None else _book_from_row(row, wanted[row["place"]][2]),
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
        select {_ACCOUNT_OF_A}, {_PARTS}
        from credit_accounts a
        join organizations o on o.id = a.org_id
        join customers c on c.org_id = a.org_id and c.id = a.customer_id
        cross join (select $3::text[] as entities) wanted
        {_LEVELS}
        where a.org_id = $1 and a.id = any($2) order by a.id
        """,
        org_id,
        ids,
        names,
    )
    assert len(rows) == len(ids), "accounts are never deleted"
    return [_book_from_row(row, names) for row in rows]


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


@dataclass(frozen=True, slots=True)
class Systems:
    """An organization's credit systems, by code, which feature labels belong to which; and its test clock, None on real
    time. `version` rises when the systems change."""

    codes: frozenset[str]
    by_feature: Mapping[str, str]
    version: int
    test_now: datetime | None

    def choose(self, code: str | None, feature: str | None) -> str:
        """The system named, else that of the feature, else the default one. NotFound `credit_system_not_found`."""
        if code is None:
            return self.by_feature.get(feature or "", DEFAULT_CREDIT_SYSTEM)
        if code not in self.codes:
            raise NotFound("credit system not found", code="credit_system_not_found")
        return code


async def get_systems(tx: Tx, org_id: UUID) -> Systems:
    """The credit systems and the clock of an organization."""
    row = await tx.fetchrow(
        """
        select o.test_now, o.credits_version, (select array_agg(code) from credit_systems where org_id = o.id) as codes,
            (select json_object_agg(f, s.code) from credit_systems s, unnest(s.features) f
                where s.org_id = o.id and s.status = 'active') as by_feature
        from organizations o where o.id = $1
        """,
        org_id,
    )
    assert row is not None, "a key's organization exists"
    return Systems(
        frozenset(row["codes"] or ()),
        json.loads(row["by_feature"]) if row["by_feature"] else {},
        row["credits_version"],
        row["test_now"],
    )


async def ensure_account(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    credit_system: str,
    account_id: UUID,
    now: datetime,
    kind: AccountKind = AccountKind.CREDITS,
) -> UUID:
    """The id of the customer's account of this system; made, under this id, when there is none."""
    found: UUID = await tx.fetchval(
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
    ) or await tx.fetchval(
        # Made by another transaction while the first statement waited for it.
        "select id from credit_accounts where org_id = $1 and customer_id = $2 and credit_system = $3",
        org_id,
        customer_id,
        credit_system,
    )
    return found


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


@dataclass(slots=True)
class Answered:
    """An idempotency key to be kept with its answer; `account_id` is the account that the effect belongs to."""

    claim: Claim
    account_id: UUID
    status: int
    response: bytes
    received_at: datetime


async def save(tx: Tx, bus: ChangeBus, books: Sequence[Book]) -> None:
    """Write what was decided over books that were locked in `tx`."""
    changed = [book for book in books if book.changes.entries or not book.changes.plain]
    if not changed:
        return
    for book in changed:
        book.look()
        await _insert_grants(tx, book)
    org_id = changed[0].account.org_id
    written = await write_entries(tx, bus.origin, org_id, changed, ())
    if len(written) != len(changed):
        raise TakenMeanwhile
    await write_rest(tx, bus.origin, changed)
    for book in changed:
        for publication in publications(book):
            tell_after_commit(tx, publication)
        book.saved()


async def write_entries(
    tx: Tx,
    origin: UUID,
    org_id: UUID,
    books: Sequence[Book],
    answers: Sequence[Answered],
    *,
    seen: Sequence[Book] = (),
    systems: Systems | None = None,
) -> set[UUID]:
    """Write entries, allocations, grants, accounts, facts and answers in one statement, for those accounts alone that
    nobody holds and nobody has changed since their book was loaded, and of which no key is used already; their ids.

    `seen` are books that nothing was taken from: they are only compared. With `systems`, nothing is written when
    the organization's systems or its clock are no longer those. Never waits for an account.
    """
    if len(books) == 1 and not seen and len(answers) <= 1 and _is_one_deduction(books[0].changes):
        return await _write_one(tx, origin, org_id, books[0], answers[0] if answers else None, systems)
    # By place in `books`, which says the account more shortly than its id.
    entries = [(place, entry) for place, book in enumerate(books) for entry in book.changes.entries]
    moves = [(place, move) for place, book in enumerate(books) for move in book.changes.moves]
    drawn = [(place, *draw) for place, book in enumerate(books) for draw in book.changes.drawn.items()]
    totals = [book.totals for book in books]
    rows = await tx.fetch(
        _WRITE,
        org_id,
        None if systems is None else systems.version,
        None if systems is None else systems.test_now,
        origin,
        arrays.uuids(book.account.id for book in books),
        arrays.numbers(book.version for book in books),
        arrays.numbers(book.last_sequence for book in books),
        arrays.numbers(book.balance for book in books),
        arrays.numbers(one[EntryType.GRANT] for one in totals),
        arrays.numbers(one[EntryType.DEDUCT] for one in totals),
        arrays.numbers(one[EntryType.EXPIRE] for one in totals),
        arrays.numbers(one[EntryType.VOID] for one in totals),
        arrays.numbers(one[EntryType.HOLD] for one in totals),
        arrays.numbers(one[EntryType.REFUND] for one in totals),
        arrays.numbers(one[EntryType.ADJUSTMENT] for one in totals),
        arrays.numbers(one[EntryType.TRANSFER] for one in totals),
        arrays.numbers(book.receivable for book in books),
        arrays.numbers(place for place, _ in entries),
        arrays.uuids(entry.id for _, entry in entries),
        arrays.numbers(entry.sequence for _, entry in entries),
        arrays.texts(entry.type for _, entry in entries),
        arrays.numbers(entry.amount for _, entry in entries),
        arrays.numbers(entry.balance_after for _, entry in entries),
        arrays.texts(entry.feature for _, entry in entries),
        arrays.texts(entry.description for _, entry in entries),
        arrays.uuids(entry.entity_id for _, entry in entries),
        arrays.uuids(entry.hold_id for _, entry in entries),
        arrays.uuids(entry.refunds_id for _, entry in entries),
        arrays.instants(entry.occurred_at for _, entry in entries),
        arrays.numbers(place for place, _ in moves),
        arrays.uuids(move[0] for _, move in moves),
        arrays.uuids(move[1] for _, move in moves),
        arrays.numbers(move[2] for _, move in moves),
        arrays.numbers(place for place, _, _ in drawn),
        arrays.uuids(grant_id for _, grant_id, _ in drawn),
        arrays.numbers(amount for _, _, amount in drawn),
        arrays.uuids(answer.account_id for answer in answers),
        arrays.texts(answer.claim.operation for answer in answers),
        arrays.texts(answer.claim.key for answer in answers),
        arrays.binaries(answer.claim.request_hash for answer in answers),
        arrays.numbers(answer.status for answer in answers),
        arrays.binaries(answer.response for answer in answers),
        arrays.instants(answer.received_at for answer in answers),
        arrays.uuids(book.account.id for book in seen),
        arrays.numbers(book.version for book in seen),
    )
    return {row["id"] for row in rows}


def _is_one_deduction(changes: Changes) -> bool:
    if len(changes.entries) != 1 or len(changes.moves) != 1:
        return False
    [entry] = changes.entries
    return entry.type is EntryType.DEDUCT and entry.hold_id is None


async def _write_one(
    tx: Tx, origin: UUID, org_id: UUID, book: Book, answer: Answered | None, systems: Systems | None
) -> set[UUID]:
    """`write_entries` of one deduction that draws on one grant, as a caller who is alone sends it: the same in a statement
    that costs database and driver about half."""
    [entry] = book.changes.entries
    [(_, grant_id, amount)] = book.changes.moves
    claim = None if answer is None else answer.claim
    written: UUID | None = await tx.fetchval(
        _WRITE_ONE,
        org_id,
        None if systems is None else systems.version,
        None if systems is None else systems.test_now,
        origin,
        book.account.id,
        book.version,
        entry.id,
        entry.sequence,
        entry.amount,
        entry.balance_after,
        entry.feature,
        entry.description,
        entry.entity_id,
        entry.occurred_at,
        grant_id,
        amount,
        None if claim is None else claim.operation,
        None if claim is None else claim.key,
        None if claim is None else claim.request_hash,
        None if answer is None else answer.status,
        None if answer is None else answer.response,
        None if answer is None else answer.received_at,
    )
    return set() if written is None else {written}


_WRITE_ONE = """
with good as materialized (
    select a.id, a.customer_id, a.kind from credit_accounts a join organizations o on o.id = a.org_id
    where a.org_id = $1 and a.id = $5 and a.version = $6
        and ($2::bigint is null or o.credits_version = $2 and o.test_now is not distinct from $3)
        and not exists (select from idempotency_keys where org_id = $1 and operation = $17 and key = $18)
    for no key update of a skip locked
), written as (
    insert into ledger_entries (org_id, account_id, id, sequence, type, amount, balance_after, feature, description,
        entity_id, occurred_at)
    select $1, id, $7, $8, 'deduct', $9, $10, $11, $12, $13, $14 from good
), moved as (
    insert into ledger_allocations (org_id, entry_id, grant_id, amount) select $1, $7, $15, $16 from good
), drew as (
    update credit_grants g set remaining = g.remaining + $16 from good where g.org_id = $1 and g.id = $15
), balanced as (
    update credit_accounts a set balance = $10, last_sequence = $8, consumed = a.consumed - $9, version = a.version + 1
    from good where a.org_id = $1 and a.id = good.id
), announced as (
    insert into outbox (org_id, id, kind, subject, payload, origin, created_at)
    select $1, $7, kind || '.deducted', customer_id::text,
        jsonb_build_object('entry_id', $7::uuid, 'amount', $9::numeric, 'balance_after', $10::numeric), $4, now()
    from good
), answered as (
    insert into idempotency_keys (org_id, operation, key, request_hash, status, response, ledger, created_at)
    select $1, $17, $18, $19, $20, $21, true, $22 from good where $18 is not null
)
select id from good
"""


_WRITE = f"""
with clock as materialized (
    select from organizations
    where id = $1 and ($2::bigint is null or credits_version = $2 and test_now is not distinct from $3)
), asked as materialized (
    select * from unnest(
        $5::text::uuid[], $6::text::bigint[], $7::text::bigint[], $8::text::numeric[], $9::text::numeric[],
        $10::text::numeric[], $11::text::numeric[], $12::text::numeric[], $13::text::numeric[],
        $14::text::numeric[], $15::text::numeric[], $16::text::numeric[], $17::text::numeric[])
    with ordinality as t (id, version, last_sequence, balance, granted, consumed, expired, voided, held, refunded,
        adjusted, transferred, receivable, place)
), entries as (
    select * from unnest(
        $18::text::int[], $19::text::uuid[], $20::text::bigint[], $21::text::text[], $22::text::numeric[],
        $23::text::numeric[], $24::text::text[], $25::text::text[], $26::text::uuid[], $27::text::uuid[],
        $28::text::uuid[], $29::text::timestamptz[])
    as t (place, id, sequence, type, amount, balance_after, feature, description, entity_id, hold_id, refunds_id,
        occurred_at)
), moves as (
    select * from unnest($30::text::int[], $31::text::uuid[], $32::text::uuid[], $33::text::numeric[])
    as t (place, entry_id, grant_id, amount)
), drawn as (
    select * from unnest($34::text::int[], $35::text::uuid[], $36::text::numeric[]) as t (place, grant_id, amount)
), answers as (
    select * from unnest(
        $37::text::uuid[], $38::text::text[], $39::text::text[], $40::text::bytea[], $41::text::smallint[],
        $42::text::bytea[], $43::text::timestamptz[])
    as t (account_id, operation, key, request_hash, status, response, received_at)
), locked as materialized (
    select a.id, a.customer_id, a.kind, asked.place - 1 as place from credit_accounts a join asked on a.id = asked.id
    where a.org_id = $1 and a.version = asked.version and exists (select from clock)
    order by a.id for no key update of a skip locked
), seen as (
    select a.id from credit_accounts a join unnest($44::text::uuid[], $45::text::bigint[]) as t (id, version)
        on a.id = t.id
    where a.org_id = $1 and a.version = t.version and exists (select from clock)
), repeated as materialized (
    select answers.account_id from answers join idempotency_keys k
        on k.org_id = $1 and k.operation = answers.operation and k.key = answers.key
), good as materialized (
    select * from locked where id not in (select account_id from repeated)
), fine as materialized (
    select id from good union all select id from seen where id not in (select account_id from repeated)
), written as (
    insert into ledger_entries (org_id, account_id, id, sequence, type, amount, balance_after, feature, description,
        entity_id, hold_id, refunds_id, occurred_at)
    select $1, good.id, e.id, e.sequence, e.type, e.amount, e.balance_after, e.feature, e.description, e.entity_id,
        e.hold_id, e.refunds_id, e.occurred_at
    from entries e join good on good.place = e.place
), moved as (
    insert into ledger_allocations (org_id, entry_id, grant_id, amount)
    select $1, m.entry_id, m.grant_id, m.amount from moves m join good on good.place = m.place
), drew as (
    update credit_grants g set remaining = g.remaining + d.amount from drawn d join good on good.place = d.place
    where g.org_id = $1 and g.id = d.grant_id
), balanced as (
    update credit_accounts a set balance = t.balance, last_sequence = t.last_sequence, granted = t.granted,
        consumed = t.consumed, expired = t.expired, voided = t.voided, held = t.held, refunded = t.refunded,
        adjusted = t.adjusted, transferred = t.transferred, receivable = t.receivable, version = t.version + 1
    from asked t join good on good.id = t.id where a.org_id = $1 and a.id = t.id
), announced as (
    insert into outbox (org_id, id, kind, subject, payload, origin, created_at)
    select $1, e.id, good.kind || '.' || case e.type {_ANNOUNCED_SQL} end, good.customer_id::text,
        jsonb_build_object('entry_id', e.id, 'amount', e.amount, 'balance_after', e.balance_after), $4, now()
    from entries e join good on good.place = e.place
), answered as (
    insert into idempotency_keys (org_id, operation, key, request_hash, status, response, ledger, created_at)
    select $1, w.operation, w.key, w.request_hash, w.status, w.response, true, w.received_at
    from answers w where w.account_id in (select id from fine)
)
select id from fine
"""


async def write_rest(tx: Tx, origin: UUID, books: Sequence[Book]) -> None:
    """Write what is not entries, of accounts that `tx` holds: holds, receivables, the use of budgets, what a top-up rule
    wished for, and the facts about that."""
    for book in books:
        changes, org_id, account_id = book.changes, book.account.org_id, book.account.id
        if changes.held:
            await _insert_holds(tx, org_id, account_id, changes.held)
        if changes.ended:
            await _end_holds(tx, org_id, changes)
        if changes.owed:
            await tx.executemany(
                """insert into credit_receivables (org_id, account_id, id, hold_id, amount, created_at)
                   values ($1, $2, $3, $4, $5, $6)""",
                [(org_id, account_id, *owed) for owed in changes.owed],
            )
        if changes.paid:
            await tx.executemany(
                "update credit_receivables set paid = paid + $3 where org_id = $1 and id = $2",
                [(org_id, receivable_id, paid) for receivable_id, paid in changes.paid.items()],
            )
        if changes.used:
            await _use_budgets(tx, org_id, changes)
        if changes.rule is not None:
            await write_rule(tx, book, changes.rule)
        if changes.facts:
            told = {fact.id for fact in changes.facts}
            await write_publications(tx, origin, [one for one in publications(book) if one.id in told])


def publications(book: Book) -> list[Publication]:
    """What the book's entries are announced as: each fact has the id of its entry."""
    account = book.account
    subject = str(account.customer_id)
    return [
        Publication(
            entry.id,
            Change(
                account.org_id,
                f"{account.kind}.{_ANNOUNCED[entry.type]}",
                subject,
                {"entry_id": entry.id, "amount": entry.amount, "balance_after": entry.balance_after},
            ),
        )
        for entry in book.changes.entries
    ] + [
        Publication(fact.id, Change(account.org_id, fact.kind, subject, fact.payload))
        for fact in book.changes.facts
    ]


async def write_rule(tx: Tx, book: Book, rule: TopUpRule) -> None:
    """Keep what has become of an account's top-up rule."""
    await tx.execute(
        """
        update credit_top_up_rules set status = $3, wish_id = $4, wished_at = $5, month_start = $6, wished_in_month = $7
        where org_id = $1 and account_id = $2
        """,
        book.account.org_id,
        book.account.id,
        rule.status,
        rule.wish_id,
        rule.wished_at,
        rule.month_start,
        rule.wished_in_month,
    )


async def _insert_grants(tx: Tx, book: Book) -> None:
    if not book.changes.granted:
        return
    await tx.executemany(
        """
        insert into credit_grants (org_id, account_id, id, amount, remaining, priority, source, reference, description,
            expires_at, created_at, entity_id, parent_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        [
            (
                book.account.org_id,
                book.account.id,
                grant.id,
                grant.amount,
                grant.amount,
                grant.priority,
                grant.source,
                grant.reference,
                grant.description,
                grant.expires_at,
                grant.created_at,
                grant.entity_id,
                grant.parent_id,
            )
            for grant in book.changes.granted
        ],
    )


async def _insert_holds(tx: Tx, org_id: UUID, account_id: UUID, holds: Sequence[Hold]) -> None:
    await tx.executemany(
        """
        insert into credit_holds (org_id, account_id, id, amount, feature, entity_id, grant_ids, drawn, pools,
            budget_ids, budget_windows, expires_at, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        [
            (
                org_id,
                account_id,
                hold.id,
                hold.amount,
                hold.feature,
                hold.entity_id,
                [draw.grant_id for draw in hold.draws],
                [draw.amount for draw in hold.draws],
                list(hold.pools),
                [budget_id for budget_id, _ in hold.windows],
                [start for _, start in hold.windows],
                hold.expires_at,
                hold.created_at,
            )
            for hold in holds
        ],
    )
    # One item for all holds of an account that end within a second; until then whoever looks sees them ended.
    ends = {_next_second(hold.expires_at): hold.created_at for hold in holds}
    for due_at, now in ends.items():
        await due.schedule(
            tx, org_id=org_id, kind=RELEASE_HOLDS, subject_id=account_id, due_at=due_at, now=now
        )


def _next_second(instant: datetime) -> datetime:
    whole = instant.replace(microsecond=0)
    return whole if whole == instant else whole + _HOLDS_DUE_EVERY


async def _end_holds(tx: Tx, org_id: UUID, changes: Changes) -> None:
    await tx.executemany(
        """update credit_holds set status = $3, settled = $4, uncovered = $5, ended_at = $6
           where org_id = $1 and id = $2""",
        [
            (org_id, ended.id, ended.status, ended.taken.settled, ended.taken.uncovered, ended.at)
            for ended in changes.ended
        ],
    )


async def _use_budgets(tx: Tx, org_id: UUID, changes: Changes) -> None:
    used = sorted(changes.used.items())
    more = [(budget_id, start, amount) for (budget_id, start), amount in used if amount > 0]
    less = [(org_id, budget_id, start, amount) for (budget_id, start), amount in used if amount < 0]
    # A budget that is gone since the hold was made counts nothing any more.
    await tx.execute(
        """
        insert into credit_budget_usage as u (org_id, budget_id, window_start, used)
        select $1, t.budget_id, t.window_start, t.used
        from unnest($2::uuid[], $3::timestamptz[], $4::numeric[]) as t (budget_id, window_start, used)
        join credit_budgets b on b.org_id = $1 and b.id = t.budget_id
        on conflict (org_id, budget_id, window_start) do update set used = u.used + excluded.used
        """,
        org_id,
        [budget_id for budget_id, _, _ in more],
        [start for _, start, _ in more],
        [amount for _, _, amount in more],
    )
    if less:
        await tx.executemany(
            """update credit_budget_usage set used = used + $4
               where org_id = $1 and budget_id = $2 and window_start = $3""",
            less,
        )


def _book_from_row(row: asyncpg.Record, entities: Iterable[str]) -> Book:
    account = Account(
        **{name.strip(): row[name.strip()] for name in ACCOUNT.split(",") if name.strip() != "kind"},
        kind=AccountKind(row["kind"]),
    )
    budgets, used = _budgets(_parsed(row["budgets"]))
    return Book(
        account,
        timezone=row["timezone"],
        grants=[_grant(one) for one in _parsed(row["grants"])],
        holds=[_hold(one) for one in _parsed(row["holds"])],
        receivables=[_receivable(one) for one in _parsed(row["receivables"])],
        budgets=budgets,
        used=used,
        levels=_levels(_parsed(row["chains"]), entities),
        alerts=[Alert(one["code"], one["name"], Decimal(one["threshold"])) for one in _parsed(row["alerts"])],
        rule=None if row["rule"] is None else _rule(json.loads(row["rule"])),
    )


def _parsed(column: str | None) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = [] if column is None else json.loads(column)
    return parsed


def _grant(row: Mapping[str, Any]) -> Grant:
    return Grant(
        UUID(row["id"]),
        Decimal(row["amount"]),
        Decimal(row["remaining"]),
        row["priority"],
        GrantSource(row["source"]),
        row["reference"],
        row["description"],
        None if row["expires_at"] is None else datetime.fromisoformat(row["expires_at"]),
        datetime.fromisoformat(row["created_at"]),
        _uuid(row["entity_id"]),
        _uuid(row["parent_id"]),
    )


def _rule(row: Mapping[str, Any]) -> TopUpRule:
    return TopUpRule(
        amount=Decimal(row["amount"]),
        threshold=Decimal(row["threshold"]),
        monthly_cap=None if row["monthly_cap"] is None else Decimal(row["monthly_cap"]),
        status=RuleStatus(row["status"]),
        wish_id=_uuid(row["wish_id"]),
        wished_at=None if row["wished_at"] is None else datetime.fromisoformat(row["wished_at"]),
        month_start=None if row["month_start"] is None else datetime.fromisoformat(row["month_start"]),
        wished_in_month=Decimal(row["wished_in_month"]),
    )


def _hold(row: Mapping[str, Any]) -> Hold:
    return Hold(
        id=UUID(row["id"]),
        amount=Decimal(row["amount"]),
        feature=row["feature"],
        entity_id=_uuid(row["entity_id"]),
        expires_at=datetime.fromisoformat(row["expires_at"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        draws=tuple(
            Draw(UUID(grant_id), Decimal(amount))
            for grant_id, amount in zip(row["grant_ids"], row["drawn"], strict=True)
        ),
        pools=tuple(_uuid(pool) for pool in row["pools"]),
        windows=tuple(
            (UUID(budget_id), datetime.fromisoformat(start))
            for budget_id, start in zip(row["budget_ids"], row["budget_windows"], strict=True)
        ),
    )


def _receivable(row: Mapping[str, Any]) -> Receivable:
    return Receivable(
        UUID(row["id"]),
        UUID(row["hold_id"]),
        row["feature"],
        _uuid(row["entity_id"]),
        Decimal(row["open"]),
    )


def _budgets(
    rows: Iterable[Mapping[str, Any]],
) -> tuple[list[Budget], dict[tuple[UUID, datetime], Decimal]]:
    budgets, used = [], {}
    for row in rows:
        budget = Budget(
            UUID(row["id"]),
            _uuid(row["entity_id"]),
            BudgetInterval(row["interval"]),
            Decimal(row["limit"]),
        )
        budgets.append(budget)
        for start, amount in row["used"] or ():
            used[budget.id, datetime.fromisoformat(start)] = Decimal(amount)
    return budgets, used


def _levels(chains: Iterable[Mapping[str, Any]], entities: Iterable[str]) -> dict[str, Level | None]:
    """Each entity asked for, with those above it; a level is active when all above it are."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in chains:
        grouped.setdefault(row["asked"], []).append(row)
    levels: dict[str, Level | None] = dict.fromkeys(entities)
    for name, rows in grouped.items():
        first, *above = rows
        levels[name] = Level(
            UUID(first["id"]),
            name,
            all(row["active"] for row in rows),
            PoolPolicy(first["policy"]),
            tuple((UUID(row["id"]), row["external_id"]) for row in above),
        )
    return levels


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
