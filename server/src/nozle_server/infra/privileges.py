"""The role that the application's connections run as: it may do what the product does, and cannot rewrite history.

Migrations, and the partitions to come, are the owner's. Every other connection runs as `nozle_app`, which owns nothing,
reads and writes every table, and has neither UPDATE nor DELETE where a trigger refuses them, nor TRUNCATE anywhere. So
history is kept twice: a trigger also stops the owner, and privileges also stop one who could switch triggers off.

This keeps mistakes and injected statements off the ledger. It does not keep out who has the owner's password: a session
may take its login's role back.

Roles belong to the whole cluster: all Nozle databases of one share `nozle_app`, each granting it what is its own. Where
the owner may not make roles (some managed databases), triggers alone guard, and the start says so.
"""

from collections.abc import Mapping

import asyncpg
import structlog

APPLICATION = "nozle_app"
ATTEMPTS = 3

log = structlog.get_logger()

_MAKE_ROLE = f"""
do $$ begin
    create role {APPLICATION} nologin;
exception
    when duplicate_object or unique_violation then null; -- another database's migration was quicker
    when insufficient_privilege then null;
end $$
"""
# A superuser may take any role; anybody else must have been given it, also who made it.
_JOIN_ROLE = f"""
do $$ begin
    if not (select rolsuper from pg_roles where rolname = current_user) then
        grant {APPLICATION} to current_user;
    end if;
exception
    when duplicate_object or unique_violation then null;
    when insufficient_privilege then null; -- somebody else made it, and may have given it to us
end $$
"""
_ROLE_EXISTS = f"select exists (select from pg_roles where rolname = '{APPLICATION}')"

# What each of our tables and sequences grants to the role, beside what it should: all but what its triggers refuse.
_DIFFERENCES = f"""
    with refused as (
        select tgrelid, bool_or(tgtype & 16 > 0) as updates, bool_or(tgtype & 8 > 0) as deletes from pg_trigger
        where tgfoid = to_regproc('refuse_change') and tgtype & 1 > 0 and tgqual is null and cardinality(tgattr) = 0
        group by 1
    ), wanted as (
        select c.oid, case when c.relkind = 'S' then array['SELECT', 'USAGE'] else array['SELECT', 'INSERT']
                || case when r.updates then '{{}}'::text[] else array['UPDATE'] end
                || case when r.deletes then '{{}}'::text[] else array['DELETE'] end end as privileges
        from pg_class c left join refused r on r.tgrelid = c.oid
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'S')
            and pg_has_role(c.relowner, 'USAGE')
    ), granted as (
        select c.oid, array_agg(a.privilege_type) as privileges from pg_class c cross join aclexplode(c.relacl) a
        where a.grantee = '{APPLICATION}'::regrole group by 1
    )
    select case c.relkind when 'S' then 'sequence' else 'table' end as kind, w.oid::regclass::text as name,
        array(select unnest(w.privileges) except select unnest(g.privileges)) as missing,
        array(select unnest(g.privileges) except select unnest(w.privileges)) as surplus
    from wanted w join pg_class c on c.oid = w.oid left join granted g on g.oid = w.oid
    where not (w.privileges <@ coalesce(g.privileges, '{{}}') and coalesce(g.privileges, '{{}}') <@ w.privileges)
    order by 2
"""
_HAS_DEFAULTS = f"""
    select count(*) = 2 from pg_default_acl d
    where d.defaclrole = current_user::regrole and d.defaclnamespace = current_schema()::regnamespace
        and d.defaclobjtype in ('r', 'S')
        and exists (select from aclexplode(d.defaclacl) a where a.grantee = '{APPLICATION}'::regrole)
"""
_SET_DEFAULTS = f"""
do $$ begin
    execute format('alter default privileges in schema %I grant select, insert, update, delete on tables to {APPLICATION}',
        current_schema());
    execute format('alter default privileges in schema %I grant select, usage on sequences to {APPLICATION}', current_schema());
end $$
"""
_MAY_ENTER = f"select has_schema_privilege('{APPLICATION}', current_schema(), 'usage')"
_ENTER = f"""
do $$ begin
    execute format('grant usage on schema %I to {APPLICATION}', current_schema());
end $$
"""
# No row where there is no such role, or no Nozle yet.
_IS_GUARDED = f"""
    select has_table_privilege(r.oid, 'ledger_entries', 'insert') and not has_table_privilege(r.oid, 'ledger_entries', 'update')
    from pg_roles r where r.rolname = '{APPLICATION}' and to_regclass('ledger_entries') is not null
"""


async def restrict_application(connection: asyncpg.Connection) -> None:
    """Make the role where that is allowed, and grant it what it should have, on tables present and future.

    For the owner, after its migrations and before anybody else's: what is in place already costs three look-ups.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await _restrict(connection)
            return
        except (
            asyncpg.InternalServerError
        ):  # a row of the catalogue was changed meanwhile, by an ANALYZE for example
            if attempt == ATTEMPTS:
                raise


async def _restrict(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval(_ROLE_EXISTS):
        await connection.execute(_MAKE_ROLE)
        if not await connection.fetchval(_ROLE_EXISTS):
            return
    if not await _may_take_role(connection):
        await connection.execute(_JOIN_ROLE)
    if not await connection.fetchval(_HAS_DEFAULTS):
        await connection.execute(_SET_DEFAULTS)
    if not await connection.fetchval(_MAY_ENTER):
        await connection.execute(_ENTER)
    for row in await connection.fetch(_DIFFERENCES):
        what = f"{row['kind']} {row['name']}"
        if row["missing"]:
            await connection.execute(f"grant {', '.join(row['missing'])} on {what} to {APPLICATION}")
        if row["surplus"]:
            await connection.execute(f"revoke {', '.join(row['surplus'])} on {what} from {APPLICATION}")


async def _may_take_role(connection: asyncpg.Connection) -> bool:
    """Whether this session can run as the role: asked by doing it, since what membership means differs by version."""
    attempt = connection.transaction()
    await attempt.start()
    try:
        await connection.execute(f"set local role {APPLICATION}")
    except asyncpg.InsufficientPrivilegeError:
        return False
    else:
        return True
    finally:
        await attempt.rollback()


async def session_settings(connection: asyncpg.Connection) -> Mapping[str, str]:
    """What a new connection must be told to run as the application; nothing where triggers alone guard the ledger."""
    if await connection.fetchval(_IS_GUARDED) and await _may_take_role(connection):
        return {"role": APPLICATION}
    return {}


def how_to_restrict(login: str) -> str:
    """What people should know where triggers alone guard the ledger."""
    return (
        "WARNING: the ledger is guarded by triggers alone, not by privileges too: this database's user may not make"
        f' roles. An administrator can: CREATE ROLE {APPLICATION} NOLOGIN; GRANT {APPLICATION} TO "{login}"; and the'
        " next start uses it."
    )
