"""Has a worker come to a halt in the middle of what it does when something falls due: where it has done all of one item and
not committed it yet. It goes on when it is let go, if it still lives.
"""

from collections.abc import Mapping
from uuid import UUID

from nozle_server.infra.database import Database

_INSTALL = """
    create table chaos_done (org_id uuid, position int, kind text);
    create table chaos_stops (org_id uuid, position int);
    create function chaos_stop() returns trigger language plpgsql as $$
    declare
        here int;
    begin
        select coalesce(max(position), 0) + 1 into here from chaos_done where org_id = old.org_id;
        insert into chaos_done values (old.org_id, here, old.kind);
        if exists (select from chaos_stops s where s.org_id = old.org_id and s.position = here) then
            -- Seen by others, unlike the row above. Whoever is stopped twice at one place holds it twice.
            perform pg_advisory_xact_lock_shared(7033, hashtext(old.org_id::text));
        end if;
        while exists (select from chaos_stops s where s.org_id = old.org_id and s.position = here) loop
            perform pg_sleep(0.02);
        end loop;
        return old;
    end $$;
    create trigger chaos_stop before delete on due_items for each row execute function chaos_stop();
"""


class Stops:
    """In one database. Positions count the items done of an organization, from 1."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def install(self) -> None:
        async with self._database.as_owner() as connection:
            await connection.execute(_INSTALL)

    async def done(self, org_id: UUID) -> list[str]:
        """The kinds of the items that were done, in order."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select kind from chaos_done where org_id = $1 order by position", org_id
            )
        return [row["kind"] for row in rows]

    async def set(self, positions: Mapping[UUID, int]) -> None:
        """Stop each organization there."""
        async with self._database.transaction() as tx:
            await tx.execute("delete from chaos_stops")
            await tx.executemany("insert into chaos_stops values ($1, $2)", list(positions.items()))

    async def stopped(self) -> int:
        """How many organizations have been stopped now."""
        async with self._database.connection() as connection:
            return int(
                await connection.fetchval(
                    "select count(distinct objid) from pg_locks where locktype = 'advisory' and classid = 7033"
                    " and database = (select oid from pg_database where datname = current_database())"
                )
            )

    async def let_go(self) -> None:
        await self.set({})
