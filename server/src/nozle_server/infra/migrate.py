"""Bring the database to this release's schema. Runs by itself at every start; servers that start together take turns.

Alembic keeps the order and the version; each migration is a plain SQL file beside its Python file.
"""

from importlib.resources import as_file, files
from pathlib import Path

import asyncpg
from alembic import command, op
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from nozle_server.infra.privileges import restrict_application

# Any fixed number: the advisory lock that lets one server migrate while the others wait.
MIGRATION_LOCK = 7_033_201_404_112_026


class OtherReleaseError(Exception):
    """The database has not this release's schema; the message is one sentence for the person at the terminal."""


async def check_schema(connection: asyncpg.Connection) -> None:
    """Raise OtherReleaseError unless the database has this release's schema; changes nothing."""
    found = None
    if await connection.fetchval("select to_regclass('alembic_version') is not null"):
        found = await connection.fetchval("select version_num from alembic_version")
    with as_file(files("nozle_server") / "migrations") as folder:
        head = ScriptDirectory(str(folder)).get_current_head()
    if found is None:
        raise OtherReleaseError("this database holds no Nozle")
    if found != head:
        raise OtherReleaseError(
            f"this database is at schema {found}, and this release knows {head}: start the server first,"
            " or use the release that it runs"
        )


async def migrate(url: str, *, to: str = "head") -> None:
    """Apply what is missing, up to a revision, and grant the application what it should have.

    `url` is a `postgresql://` URL; waits while another server migrates the same database.
    """
    engine = create_async_engine(
        url.replace("postgres://", "postgresql://", 1).replace("://", "+asyncpg://", 1)
    )
    try:
        async with engine.connect() as connection:
            await connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            await connection.commit()
            try:
                await connection.run_sync(_upgrade, to)
                raw = await connection.get_raw_connection()
                await restrict_application(raw.driver_connection)
            finally:
                await connection.rollback()
                await connection.execute(text("select pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, to: str) -> None:
    with as_file(files("nozle_server") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        connection.commit()


def run_script(python_file: str) -> None:
    """Run the SQL file beside a migration's Python file, in the migration's transaction, with a lock timeout."""
    # Through SQLAlchemy, which begins its transaction with the first statement that it sees. It does not see the script:
    # without this one the script would be committed by itself, and a kill before its version is noted would leave a
    # database that no server can start on.
    op.execute("set local lock_timeout = '2s'")
    raw = op.get_bind().connection.dbapi_connection.driver_connection  # type: ignore[union-attr]
    assert raw.is_in_transaction(), "a migration and its version are committed together"
    await_only(raw.execute(Path(python_file).with_suffix(".sql").read_text()))
