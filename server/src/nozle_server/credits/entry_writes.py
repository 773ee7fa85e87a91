"""The one statement that writes what was decided over many accounts: entries, allocations, grants, accounts, facts, answers.

It compares versions under the row locks, so that what it writes was decided on the state that the lock protects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from nozle_server.credits.book import Book, Changes
from nozle_server.credits.events import ANNOUNCED
from nozle_server.credits.model import EntryType
from nozle_server.credits.system_store import Systems
from nozle_server.infra import arrays
from nozle_server.infra.database import Tx
from nozle_server.infra.idempotency import Claim

_ANNOUNCED_SQL = " ".join(f"when '{kind}' then '{name}'" for kind, name in ANNOUNCED.items())


@dataclass(slots=True)
class Answered:
    """An idempotency key to be kept with its answer; `account_id` is the account that the effect belongs to."""

    claim: Claim
    account_id: UUID
    status: int
    response: bytes
    received_at: datetime


class Statement(NamedTuple):
    """What writes it, and with which values: those at the time it was made."""

    sql: str
    values: tuple[object, ...]


async def write(tx: Tx, statement: Statement) -> set[UUID]:
    """The ids of the accounts for which it is written, or still true. Never waits for an account."""
    return {row["id"] for row in await tx.fetch(statement.sql, *statement.values)}


def prepare(
    origin: UUID,
    org_id: UUID,
    books: Sequence[Book],
    answers: Sequence[Answered],
    *,
    seen: Sequence[Book] = (),
    systems: Systems | None = None,
) -> Statement:
    """Writes entries, allocations, grants, accounts, facts and answers, for those accounts alone that nobody holds and
    nobody has changed since their book was loaded, and of which no key is used already.

    `seen` are books that nothing was taken from: they are only compared. With `systems`, nothing is written when
    the organization's systems or its clock are no longer those.
    """
    if len(books) == 1 and not seen and len(answers) <= 1 and _is_one_deduction(books[0].changes):
        return _prepare_one(origin, org_id, books[0], answers[0] if answers else None, systems)
    # By place in `books`, which says the account more shortly than its id.
    entries = [(place, entry) for place, book in enumerate(books) for entry in book.changes.entries]
    moves = [(place, move) for place, book in enumerate(books) for move in book.changes.moves]
    drawn = [(place, *draw) for place, book in enumerate(books) for draw in book.changes.drawn.items()]
    totals = [book.totals for book in books]
    values = (
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
    return Statement(_WRITE, values)


def _is_one_deduction(changes: Changes) -> bool:
    if len(changes.entries) != 1 or len(changes.moves) != 1:
        return False
    [entry] = changes.entries
    return entry.type is EntryType.DEDUCT and entry.hold_id is None


def _prepare_one(
    origin: UUID, org_id: UUID, book: Book, answer: Answered | None, systems: Systems | None
) -> Statement:
    """`prepare` for one deduction that draws on one grant, as a caller who is alone sends it: the same in a statement
    that costs database and driver about half."""
    [entry] = book.changes.entries
    [(_, grant_id, amount)] = book.changes.moves
    claim = None if answer is None else answer.claim
    values = (
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
    return Statement(_WRITE_ONE, values)


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
