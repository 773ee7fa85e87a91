"""Every check of the auditor finds what it is there to find: the books are corrupted behind the database's back, one way at
a time, and the auditor says so (X00). A check that cannot fail is not a check."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from databases import with_database
from nozle_server.api.app import build_app
from nozle_server.audit import entities, store, tenants, usage_operations
from nozle_server.audit.model import Finding, Report
from nozle_server.audit.queries import CHECKS, LIMIT, audit
from nozle_server.bootstrap import build_services
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import Database
from nozle_server.infra.migrate import migrate
from nozle_server.infra.retention import FACTS_KEPT
from nozle_server.infra.settings import Settings
from world import Client, World, open_world

from .books import keep_books

pytestmark = pytest.mark.database


@pytest.fixture(scope="module")
async def books(database_server: str) -> AsyncIterator[World]:
    """A database with two merchants whose books are right; tests change them in transactions that roll back."""
    name = f"nozle_audit_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(database_server)
    await admin.execute(f'create database "{name}"')
    url = with_database(database_server, name)
    await migrate(url)
    database = await Database.connect(url, connections=4)
    try:
        services = build_services(database, Settings(), SystemClock())
        client = Client(build_app(services))
        await keep_books(await open_world(client, services))
        world = await open_world(client, services)
        await keep_books(world)
        yield world
    finally:
        await database.close()
        await admin.execute(f'drop database "{name}" with (force)')
        await admin.close()


@asynccontextmanager
async def corrupted(world: World, *statements: str) -> AsyncIterator[asyncpg.Connection]:
    """A transaction in which each statement changed something that no trigger and no foreign key saw; `$1` is the
    organization. Nothing of it stays."""
    connection = await asyncpg.connect(world.database.url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("set local session_replication_role = replica")
        for statement in statements:
            status = await connection.execute(statement, *([world.org_id] if "$1" in statement else []))
            assert not status.endswith(" 0"), f"corrupted nothing: {statement}"
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


async def audited(connection: asyncpg.Connection, world: World, **options: Any) -> Report:
    return await audit(connection, real_now=world.services.clock.now(), **options)


def found(report: Report) -> dict[str, int]:
    return {one.check.name: one.findings_count for one in report.checked if one.findings_count}


def findings(report: Report, check: str) -> Sequence[Finding]:
    [one] = [one for one in report.checked if one.check.name == check]
    return one.findings


@dataclass(frozen=True)
class Corruption:
    """What is done to the books, the check that must see it, and those that cannot help seeing it too."""

    check: str
    statements: tuple[str, ...]
    also: tuple[str, ...] = ()
    count: int = 1


def a(check: str, *statements: str, also: Sequence[str] = (), count: int = 1) -> Corruption:
    return Corruption(check, statements, tuple(also), count)


def one_of(table: str, where: str = "true") -> str:
    """Condition: the first row of the organization that is so."""
    return f"ctid = (select ctid from {table} where org_id = $1 and {where} order by id limit 1)"


def unchecked(table: str) -> str:
    """Drops the table's CHECK constraints, which hold for every role."""
    return f"""do $$ declare name text; begin
        for name in select conname from pg_constraint where conrelid = '{table}'::regclass and contype = 'c' loop
            execute format('alter table {table} drop constraint %I', name);
        end loop; end $$"""


def a_copy(table: str, where: str, changes: str) -> str:
    """Inserts a copy of the first row that is so, with these columns changed (as the inside of a JSON object)."""
    return f"""insert into {table} select (jsonb_populate_record(null::{table},
            to_jsonb(t) || jsonb_build_object({changes}))).* from (
        select * from {table} where org_id = $1 and {where} limit 1) t"""


CREDITS = "org_id = $1 and kind = 'credits' and transferred < 0"
LAST = "order by sequence desc limit 1"
DEDUCTED = "kind = 'credits.deducted'"
MONEY = "kind = 'money'"
WALLET = "kind = 'wallet'"

CORRUPTIONS = (
    a(
        "balance_is_the_sum_of_entries",
        f"update credit_accounts set balance = balance + 1, granted = granted + 1 where {CREDITS}",
        also=("balance_is_what_grants_hold", "totals_are_the_sums_of_entries"),
    ),
    a(
        "balance_is_what_grants_hold",
        f"update credit_grants set remaining = remaining - 0.000000000001 where {one_of('credit_grants', 'remaining > 1')}",
        also=("remaining_is_the_sum_of_allocations",),
    ),
    a(
        "totals_are_the_sums_of_entries",
        f"update credit_accounts set granted = granted + 1, consumed = consumed + 1 where {CREDITS}",
    ),
    a(
        "nothing_is_below_zero",
        unchecked("credit_accounts"),
        f"update credit_accounts set balance = -0.000000000001 where {CREDITS}",
        also=("balance_is_the_sum_of_entries", "balance_is_what_grants_hold"),
    ),
    a(
        "nothing_is_below_zero",
        unchecked("credit_grants"),
        f"update credit_grants set amount = remaining - 1 where {one_of('credit_grants', 'remaining > 1')}",
        also=("grant_has_one_entry",),
    ),
    a(
        "nothing_is_below_zero",
        unchecked("ledger_entries"),
        f"update ledger_entries set balance_after = -1 where {one_of('ledger_entries')}",
        also=("balances_after_run_on",),
    ),
    a(
        "remaining_is_the_sum_of_allocations",
        f"update credit_grants set remaining = remaining - 1 where {one_of('credit_grants', 'remaining = 60')}",
        f"update credit_grants set remaining = remaining + 1 where {one_of('credit_grants', 'amount = 10')}",
        count=2,
    ),
    a(
        "entry_is_the_sum_of_allocations",
        """update ledger_allocations l set amount = l.amount - case e.type when 'deduct' then 1 else -1 end
            from ledger_entries e join credit_accounts a on a.org_id = e.org_id and a.id = e.account_id and a.kind = 'credits'
            where l.org_id = $1 and e.org_id = $1 and e.id = l.entry_id
                and e.amount in (-0.1, -39.9)""",
        count=2,
    ),
    a(
        "balances_after_run_on",
        f"update ledger_entries set balance_after = balance_after + 1 where {one_of('ledger_entries')}",
    ),
    a(
        "entries_are_numbered_without_a_gap",
        f"""update ledger_entries set sequence = sequence + 1 where org_id = $1 and id = (select id from ledger_entries
            where org_id = $1 {LAST})""",
    ),
    a(
        "entries_are_numbered_without_a_gap",
        f"update credit_accounts set last_sequence = last_sequence - 1 where {CREDITS}",
    ),
    a(
        "grant_has_one_entry",
        f"update credit_grants set amount = amount + 1 where {one_of('credit_grants')}",
    ),
    a(
        "refund_is_of_its_deduction",
        """update ledger_entries set refunds_id = (select id from ledger_entries where org_id = $1 and type = 'grant' limit 1)
            where org_id = $1 and type = 'refund'""",
    ),
    a(
        "refund_is_of_its_deduction",
        """update ledger_entries set refunds_id = (select id from ledger_entries where org_id = $1 and amount = -0.1)
            where org_id = $1 and type = 'refund'""",
    ),
    a(
        "transfers_cancel_out",
        f"update credit_accounts set transferred = transferred + 1, adjusted = adjusted - 1 where {CREDITS}",
        also=("totals_are_the_sums_of_entries",),
    ),
    a(
        "held_is_what_open_holds_hold",
        "update credit_accounts set held = held - 1, consumed = consumed + 1 where org_id = $1 and held > 0",
        also=("totals_are_the_sums_of_entries",),
    ),
    a(
        "held_is_what_open_holds_hold",
        "update credit_holds set status = 'released', ended_at = now() where org_id = $1 and status = 'open'",
        also=("hold_is_in_the_ledger",),
    ),
    a(
        "hold_is_in_the_ledger",
        "update credit_holds set settled = settled + 1 where org_id = $1 and status = 'settled'",
    ),
    a(
        "hold_is_in_the_ledger",
        "update ledger_entries set hold_id = null where org_id = $1 and type = 'release' and amount = 1",
    ),
    a(
        "uncovered_is_owed",
        "update credit_receivables set amount = amount + 1, paid = paid + 1 where org_id = $1",
        also=("hold_is_in_the_ledger",),
    ),
    a(
        "receivable_is_what_is_owed",
        "update credit_accounts set receivable = receivable - 1 where org_id = $1 and receivable > 0",
    ),
    a(
        "receivable_is_what_is_owed",
        "update credit_receivables set paid = amount where org_id = $1",
        also=("hold_is_in_the_ledger",),
    ),
    a(
        "budget_counts_open_holds",
        "update credit_budget_usage set used = 4.999999999999 where org_id = $1",
    ),
    a(
        "entry_is_announced_once",
        f"delete from outbox where {one_of('outbox', DEDUCTED)}",
    ),
    a(
        "entry_is_announced_once",
        a_copy("outbox", "kind = 'money.granted'", "'id', gen_random_uuid()"),
    ),
    a(
        "fact_has_its_entry",
        a_copy(
            "outbox",
            "kind = 'credits.expired'",
            "'id', gen_random_uuid(), 'payload', jsonb_build_object('entry_id', gen_random_uuid())",
        ),
    ),
    a(
        "payment_is_announced_once",
        "delete from outbox where id = (select id from outbox where org_id = $1 and kind = 'payment.recorded' limit 1)",
    ),
    a(
        "key_has_its_answer",
        "update idempotency_keys set response = null where org_id = $1 and key = 'deduct 1'",
    ),
    *(
        a(
            "refusal_moved_nothing",
            f"""update idempotency_keys set response = convert_to('{{"allowed":false,"{field}":"' || (
                    select {said} from {table} where org_id = $1 order by id limit 1) || '"}}', 'UTF8')
                where org_id = $1 and key = 'deduct 2'""",
        )
        for field, said, table in (
            ("operation_id", "id::text", "ledger_entries"),
            ("id", "'hold_' || replace(id::text, '-', '')", "credit_holds"),
        )
    ),
    a(
        "acknowledged_deductions_are_entries",
        """insert into idempotency_keys select org_id, operation, key || n, request_hash, status, response, ledger, created_at
            from idempotency_keys, generate_series(1, 50) n where org_id = $1 and key = 'deduct 1'""",
    ),
    a(
        "wallet_has_its_account",
        f"update credit_accounts set kind = 'credits' where {one_of('credit_accounts', MONEY)}",
    ),
    a(
        "wallet_has_its_account",
        f"update credit_accounts set kind = 'money' where {CREDITS}",
        also=("transfers_cancel_out",),
    ),
    a(
        "wallet_transactions_are_entries",
        f"""update wallet_transactions set amount = amount + 1
            where {one_of("wallet_transactions", "transaction_status = 'granted'")}""",
    ),
    a(
        "wallet_transactions_are_entries",
        f"""update wallet_transactions set status = 'failed', entry_id = null, grant_id = null, settled_at = null
            where {one_of("wallet_transactions", "transaction_status = 'granted'")}""",
    ),
    a(
        "wallet_consumed_what_it_paid",
        f"update wallets set consumed_amount = consumed_amount + 0.01 where {one_of('wallets')}",
    ),
    a(
        "bought_credits_follow_their_payment",
        "update invoices set payment_status = 'pending' where org_id = $1 and invoice_type = 'credit'",
    ),
    a(
        "event_is_stored_once",
        a_copy(
            "events",
            "transaction_id = 'tokens 20'",
            "'id', gen_random_uuid(), 'status', 'late', 'occurred_at', occurred_at + interval '1 s'",
        ),
    ),
    a(
        "event_is_stored_once",
        "delete from event_ids where org_id = $1 and transaction_id = 'tokens 20'",
    ),
    a(
        "claimed_id_has_its_event",
        a_copy(
            "event_ids",
            "transaction_id = 'tokens 20'",
            "'transaction_id', 'lost', 'event_id', gen_random_uuid()",
        ),
    ),
    a(
        "claimed_id_has_its_event",
        "delete from events where org_id = $1 and transaction_id = 'nobody''s'",
    ),
    a(
        "counter_counts_its_events",
        "update usage_counters set events_count = events_count + 1 where org_id = $1 and units = 260",
    ),
    a(
        "counter_counts_its_events",
        "delete from usage_counters where org_id = $1 and units = 70",
    ),
    a(
        "counter_counts_its_events",
        "update usage_counters set period_start = period_start + interval '1 day' where org_id = $1 and units = 260",
        count=2,
    ),
    *(
        a(
            "counter_adds_up",
            f"""update usage_counters set units = units + 1 where org_id = $1 and events_count = 3
                and metric_id = (select id from billable_metrics where org_id = $1 and code = '{code}')""",
        )
        for code in ("calls", "peak", "level")
    ),
    a(
        "counter_adds_up",
        "update usage_counters set units = units + 0.000000000001 where org_id = $1 and units = 260",
    ),
    a(
        "counter_of_unique_values_adds_up",
        "update usage_unique_values set present = false where org_id = $1 and value = '30'",
    ),
    *(
        a(
            "carried_counters_hold_all_events",
            f"update usage_counters set {column} = {column} + 1 where org_id = $1 and units = 60",
        )
        for column in ("units", "events_count")
    ),
    *(
        a(
            "invoice_is_the_sum_of_its_lines",
            f"update invoice_lines set {column} = {column} + 1 where {one_of('invoice_lines', 'invoice_id is not null')}",
        )
        for column in ("amount_cents", "taxes_amount_cents")
    ),
    a(
        "invoice_is_reduced_by_its_credits",
        f"update invoice_credits set amount_cents = amount_cents + 1 where {one_of('invoice_credits', WALLET)}",
    ),
    a(
        "invoice_total_follows_from_its_parts",
        unchecked("invoices"),
        f"update invoices set total_amount_cents = total_amount_cents + 1 where {one_of('invoices')}",
    ),
    a(
        "invoice_numbers_have_no_gap",
        """update invoices set sequential_id = sequential_id + 1
            where org_id = $1 and sequential_id = (select max(sequential_id) from invoices where org_id = $1)""",
    ),
    a(
        "billed_events_are_the_events",
        f"update invoice_lines set events_count = events_count + 1 where {one_of('invoice_lines', 'units = 260')}",
    ),
    a(
        "billed_units_are_the_usage",
        f"update invoice_lines set units = units - 1 where {one_of('invoice_lines', 'units = 70')}",
    ),
    a(
        "event_is_charged_in_advance_once",
        a_copy(
            "invoice_lines",
            "event_transaction_id is not null",
            "'id', gen_random_uuid(), 'invoice_id', null, 'charge_filter_id', gen_random_uuid()",
        ),
    ),
    a(
        "fee_in_advance_has_its_event",
        f"""update invoice_lines set event_transaction_id = 'lost'
            where {one_of("invoice_lines", "event_transaction_id is not null")}""",
    ),
    a(
        "progressive_credit_was_charged",
        """update invoice_credits set source_id = invoice_id where org_id = $1 and kind = 'progressive_billing'""",
    ),
    a(
        "coupon_uses_are_invoice_credits",
        f"update coupon_uses set amount_cents = amount_cents + 1 where {one_of('coupon_uses')}",
    ),
    a(
        "paid_is_the_sum_of_payments",
        f"update payments set amount_cents = amount_cents + 1 where {one_of('payments')}",
    ),
    a(
        "paid_is_the_sum_of_payments",
        f"update payments set payment_status = 'failed' where {one_of('payments')}",
    ),
    a(
        "payment_is_of_its_invoice",
        f"update payments set currency = 'EUR' where {one_of('payments')}",
    ),
    a(
        "provider_payment_counts_once",
        "update payments set provider_payment_id = 'pi_1' where org_id = $1",
    ),
    a(
        "credit_notes_stay_within_their_invoice",
        unchecked("credit_notes"),
        f"update credit_notes set offset_amount_cents = 1000000 where {one_of('credit_notes')}",
    ),
    a(
        "credit_note_is_the_sum_of_its_items",
        f"""update credit_notes set coupons_adjustment_amount_cents = coupons_adjustment_amount_cents + 1
            where {one_of("credit_notes")}""",
    ),
    a(
        "fee_is_taken_back_once",
        "update credit_note_items set amount_cents = amount_cents + 1000000 where org_id = $1",
        """update credit_notes set coupons_adjustment_amount_cents = coupons_adjustment_amount_cents + 1000000
            where org_id = $1""",
    ),
    a(
        "credit_note_balance_is_what_invoices_left",
        f"""update credit_notes set balance_amount_cents = 1, credit_status = 'available'
            where {one_of("credit_notes")}""",
    ),
    a(
        "credit_note_numbers_have_no_gap",
        "update credit_notes set sequential_id = 3 where org_id = $1 and sequential_id = 2",
    ),
    a(
        tenants.REFERENCES,
        "update events set customer_id = (select id from customers where org_id <> $1 limit 1) where org_id = $1",
    ),
)


def test_there_is_a_corruption_for_every_check() -> None:
    # server/tests/entities/test_audit.py, server/tests/credits/test_usage_audit.py
    elsewhere = {one.name for one in (*entities.CHECKS, *usage_operations.CHECKS)}
    here = {one.check for one in CORRUPTIONS}
    assert here == {one.name for one in CHECKS} - elsewhere | {tenants.REFERENCES}


async def test_books_that_are_right_are_clean(books: World) -> None:
    """Over all organizations and over one; every check has run."""
    async with books.database.snapshot() as tx:
        for org_id in (None, books.org_id):
            report = await audited(tx, books, org_id=org_id)
            assert found(report) == {}
            assert len(report.checked) == len(CHECKS) + 1


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda one: one.check)
async def test_a_corruption_is_found_by_its_check_and_by_no_other(
    books: World, corruption: Corruption
) -> None:
    """The finding names the organization, the row, and what it should say; the other merchant is not accused."""
    async with corrupted(books, *corruption.statements) as connection:
        report = await audited(connection, books)
        assert set(found(report)) == {corruption.check, *corruption.also}
        assert found(report)[corruption.check] == corruption.count
        for one in findings(report, corruption.check):
            assert one.org_id == books.org_id
            assert any(one.ids.values())
            assert one.expected != one.found
        for one in report.checked:
            if one.findings_count:
                kept_from = store.kept_from(books.services.clock.now(), FACTS_KEPT)
                alone = await store.run(
                    connection, one.check, org_id=books.org_id, kept_from=kept_from, limit=LIMIT
                )
                assert alone.findings == one.findings


async def test_another_organizations_faults_are_not_this_ones(books: World) -> None:
    other = "select id from organizations where id <> $1"
    async with corrupted(
        books, f"update payments set currency = 'EUR' where org_id = ({other})"
    ) as connection:
        assert found(await audited(connection, books, org_id=books.org_id)) == {}
        assert list(found(await audited(connection, books))) == ["payment_is_of_its_invoice"]


async def test_findings_are_bounded_and_counted(books: World) -> None:
    copies = """insert into outbox select org_id, gen_random_uuid(), kind, subject,
        jsonb_build_object('entry_id', n), created_at from (
            select * from outbox where org_id = $1 and kind = 'credits.expired' limit 1) one, generate_series(1, 50) n"""
    async with corrupted(books, copies) as connection:
        report = await audited(connection, books)
        assert found(report) == {"fact_has_its_entry": 50}
        assert len(findings(report, "fact_has_its_entry")) == LIMIT


async def test_what_is_older_than_facts_are_kept_is_not_held_to_having_one(books: World) -> None:
    """Seven days after the entries the outbox may be empty, but what is there must still be there once."""
    later = books.services.clock.now() + timedelta(days=8)
    async with corrupted(books, "delete from outbox where org_id = $1") as connection:
        assert set(found(await audited(connection, books))) == {
            "entry_is_announced_once",
            "payment_is_announced_once",
        }
        assert found(await audit(connection, real_now=later)) == {}
    twice = a_copy("outbox", "kind = 'money.granted'", "'id', gen_random_uuid()")
    async with corrupted(books, twice) as connection:
        assert found(await audit(connection, real_now=later)) == {"entry_is_announced_once": 1}


async def test_every_reference_is_followed(books: World) -> None:
    """Each column that names a row of another table, where the books have one: another id in it is found."""
    async with books.database.snapshot() as tx:
        references = [*await store.list_references(tx), *tenants.UNDECLARED]
    tried = 0
    for one in references:
        async with corrupted(books) as connection:
            try:
                async with connection.transaction():
                    changed = await connection.fetchval(
                        f"""update {one.table} set {one.column} = gen_random_uuid()
                            where (tableoid, ctid) = (select tableoid, ctid from {one.table}
                                where {one.column} is not null and {one.only} limit 1) returning true"""
                    )
            except asyncpg.DataError:
                changed = False
            if changed:
                tried += 1
                check = tenants.check_of([one])
                checked = await store.run(connection, check, org_id=None, kept_from=uuid.UUID(int=0), limit=9)
                assert checked.findings_count >= 1, one
                assert checked.findings[0].ids["column"] == f"{one.table}.{one.column}"
    assert tried > 60


async def test_no_column_that_names_a_row_is_forgotten(books: World) -> None:
    """A column `..._id` with a UUID names a row: by a foreign key, or in the auditor's list; or it is explained here."""
    async with books.database.snapshot() as tx:
        known = {(one.table, one.column) for one in [*await store.list_references(tx), *tenants.UNDECLARED]}
        rows = await tx.fetch(
            """select t.relname as table, a.attname as column from pg_attribute a join pg_class t on t.oid = a.attrelid
               where t.relnamespace = current_schema()::regnamespace and t.relkind in ('r', 'p') and not t.relispartition
                   and a.atttypid = 'uuid'::regtype and a.attname like '%\\_id'"""
        )
    named = {(row["table"], row["column"]) for row in rows}
    owned = {table for table, column in named if column == "org_id"}
    assert owned <= {table for table, _ in known}
    unknown = named - known - {(table, "org_id") for table in owned}
    assert unknown == {
        ("pgqueuer", "queue_manager_id"),  # a process
        ("due_items", "subject_id"),  # of what kind, the kind says
        ("event_ids", "event_id"),  # claimed_id_has_its_event
        (
            "advance_arrivals",
            "event_id",
        ),  # may be an event that was never stored: only its place in the order counts
        ("invoice_lines", "charge_id"),  # inside a plan's version
        ("invoice_lines", "charge_filter_id"),
        ("invoice_lines", "fixed_charge_id"),
        ("reached_thresholds", "threshold_id"),
        ("replica_holds", "snapshot_id"),  # signed and sent, not stored
        ("replica_holds", "reported_id"),
        ("credit_top_up_rules", "wish_id"),  # the fact that announced it, as long as the outbox keeps it
    }
