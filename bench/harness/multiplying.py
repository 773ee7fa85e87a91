"""Many rows from one that the API made, whatever columns it has: each is a copy with a few columns of its own."""

import asyncpg


async def multiply(
    connection: asyncpg.Connection, table: str, made: dict[str, str], where: str, *values: object
) -> None:
    """Insert a copy of the row of `table` for each of the `people`, with the columns `made` its own."""
    columns = await columns_of(connection, table)
    chosen = ", ".join(made.get(name, f"t.{name}") for name in columns)
    await connection.execute(
        f"insert into {table} ({', '.join(columns)}) select {chosen} from {table} t cross join people p where {where}",
        *values,
    )


async def columns_of(
    connection: asyncpg.Connection, table: str, *, but_not: tuple[str, ...] = ()
) -> list[str]:
    rows = await connection.fetch(
        """select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attisdropped
           and attgenerated = '' order by attnum""",
        table,
    )
    return [row["attname"] for row in rows if row["attname"] not in but_not]
