"""Whether every commit that changes what `can()` reads has announced it, and what is kept of it is what is stored.

Triggers note, in the transaction that does it, whose facts are written otherwise than they were. They are in the tests' own
database for the whole run, so whatever any test does, by whichever way of the product, is looked at when it is over.
"""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from nozle_server.entitlements.news import Customers, Organization, concerned
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.entitlements.snapshots import Snapshots
from nozle_server.infra.change_bus import Change

# Table, the columns that `can()` and the overview of all that it says read (none: all of them), and the merchant's id of whom
# a row concerns (none: everybody).
_READ: Sequence[tuple[str, Sequence[str], str | None]] = (
    ("organizations", ("test_now", "margin_enforcement", "min_margin_percent"), None),
    ("features", ("code", "name", "metric_id", "privileges", "deleted_at"), None),
    (
        "billable_metrics",
        (
            "code",
            "name",
            "aggregation_type",
            "recurring",
            "rounding_function",
            "rounding_precision",
            "deleted_at",
        ),
        None,
    ),
    ("plans", ("code",), None),
    ("plan_entitlements", (), None),
    ("cost_models", (), None),
    (
        "margin_policies",
        (),
        "(select c.external_id from customers c where c.org_id = r.org_id and c.id = r.customer_id)",
    ),
    ("customers", ("external_id", "deleted_at"), "r.external_id"),
    (
        "subscriptions",
        (
            "external_id",
            "customer_id",
            "plan_id",
            "plan_version_id",
            "status",
            "billing_time",
            "timezone",
            "subscription_at",
            "started_at",
            "ending_at",
            "terminated_at",
            "canceled_at",
            "current_period_start",
            "current_period_end",
            "previous_subscription_id",
            "trial_ends_at",
        ),
        "(select c.external_id from customers c where c.org_id = r.org_id and c.id = r.customer_id)",
    ),
    (
        "subscription_entitlements",
        (),
        "(select c.external_id from customers c join subscriptions s on s.org_id = c.org_id and s.customer_id = c.id"
        " where s.org_id = r.org_id and s.id = r.subscription_id)",
    ),
    (
        "usage_counters",
        ("units",),
        "(select c.external_id from customers c join subscriptions s on s.org_id = c.org_id and s.customer_id = c.id"
        " where s.org_id = r.org_id and s.id = r.subscription_id)",
    ),
    (
        "entities",
        ("external_id", "status", "deleted_at"),
        "(select c.external_id from customers c where c.org_id = r.org_id and c.id = r.customer_id)",
    ),
)


async def install(connection: asyncpg.Connection) -> None:
    """Begin to note."""
    await connection.execute(
        """
        create schema noted;
        grant usage on schema noted to public;
        create table noted.changes (transaction xid8, org_id uuid, customer text, what text);
        create index on noted.changes (org_id);
        -- Apart from the outbox, in which news are kept for a while only.
        create table noted.news (transaction xid8, org_id uuid, kind text, subject text, payload jsonb);
        create index on noted.news (org_id, transaction);
        grant insert, select, delete on noted.changes, noted.news to public;
        create function noted.outbox() returns trigger language plpgsql as $$
        begin
            insert into noted.news values (new.transaction, new.org_id, new.kind, new.subject, new.payload);
            return null;
        end $$;
        create trigger noted after insert on outbox for each row execute function noted.outbox();
        """
    )
    for table, columns, customer in _READ:
        org = "r.id" if table == "organizations" else "r.org_id"
        same = " and ".join(f"old.{one} is not distinct from new.{one}" for one in columns) or "old = new"
        await connection.execute(
            f"""
            create function noted.{table}() returns trigger language plpgsql as $$
            declare r record;
            begin
                if tg_op = 'UPDATE' then
                    if {same} then return null; end if;
                end if;
                if tg_op = 'DELETE' then r := old; else r := new; end if;
                insert into noted.changes
                values (pg_current_xact_id(), {org}, {customer or "null"}, tg_op || ' {table}');
                return null;
            end $$;
            create trigger noted after insert or update or delete on {table}
                for each row execute function noted.{table}();
            """
        )


async def unannounced(connection: asyncpg.Connection, org_id: UUID) -> list[str]:
    """What was changed in this organization and not announced in the same transaction; it is asked once only.

    Nobody can have asked about an organization before the transaction that makes it.
    """
    if not await _installed(connection):
        return []
    rows = await connection.fetch(
        """
        with noted as (delete from noted.changes where org_id = $1 returning *)
        select n.transaction, n.what, n.customer, o.kind, o.subject, o.payload
        from (select distinct transaction, customer, what from noted) n
        left join noted.news o on o.org_id = $1 and o.transaction = n.transaction
        where n.transaction not in (select transaction from noted where what = 'INSERT organizations')
        """,
        org_id,
    )
    told: dict[tuple[int, str, str | None], bool] = {}
    for row in rows:
        key = row["transaction"], row["what"], row["customer"]
        reaches = False
        if row["kind"] is not None:
            change = Change(org_id, row["kind"], row["subject"], row["payload"])
            reaches = _reaches(concerned(change), row["customer"])
        told[key] = told.get(key, False) or reaches
    return sorted(
        {f"{what} of {whom or 'everybody'}" for (_, what, whom), known in told.items() if not known}
    )


async def stale(connection: asyncpg.Connection, snapshots: Snapshots, org_id: UUID) -> list[str]:
    """Customers of whom this process keeps something else than what is stored."""
    found = []
    for (of, external_id), kept in list(snapshots._customers.items()):
        if of == org_id and snapshots.peek(of, external_id) is kept:
            organization = await read_organization(connection, org_id)
            if await read_customer(connection, organization, external_id) != kept:
                found.append(external_id)
    return found


async def overlook(connection: asyncpg.Connection) -> None:
    """Forget what this transaction has changed: a test wrote it past the product."""
    if await _installed(connection):
        await connection.execute(
            "delete from noted.changes where transaction = pg_current_xact_id_if_assigned()"
        )


async def _installed(connection: asyncpg.Connection) -> bool:
    return await connection.fetchval("select to_regclass('noted.changes')") is not None


def _reaches(whom: Organization | Customers | None, customer: str | None) -> bool:
    if isinstance(whom, Organization):
        return True
    return whom is not None and customer is not None and customer in whom.external_ids
