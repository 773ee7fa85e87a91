"""The program: its commands by name, and one clear line for what can be expected to go wrong."""

import errno
import sys

import typer
from pydantic import ValidationError

from nozle_server.bootstrap import UnsafeDatabaseError
from nozle_server.cli import audit, catalog, due, keys, organizations, processes, snapshot_keys
from nozle_server.core.errors import NozleError
from nozle_server.infra.durability import UnsupportedPostgresError
from nozle_server.infra.embedded_postgres import DataDirectoryInUse, EmbeddedPostgresError
from nozle_server.serving.workers import WorkerFailed

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Billing for AI products, exact to the last digit."
)
for command in (
    processes.serve,
    processes.dev,
    processes.worker,
    processes.migrate,
    catalog.apply,
    audit.audit,
):
    app.command()(command)
app.add_typer(organizations.group, name="organizations")
app.add_typer(keys.group, name="keys")
app.add_typer(due.group, name="due")
app.add_typer(snapshot_keys.group, name="snapshot-keys")


_EXPECTED = (
    NozleError,
    DataDirectoryInUse,
    EmbeddedPostgresError,
    UnsafeDatabaseError,
    UnsupportedPostgresError,
    WorkerFailed,
    OSError,
)


def main() -> None:
    """The console script: one clear line instead of a traceback for what can be expected to go wrong."""
    try:
        app()
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        _fail(f"bad settings: {problems}")
    except _EXPECTED as error:
        _fail(_explain(error))


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "the port is in use: choose another with PORT or --port"
    if isinstance(error, ConnectionError):
        return f"cannot connect to the database of DATABASE_URL: {error.strerror or error}"
    return str(error)


def _fail(message: str) -> None:
    sys.stderr.write(f"nozle-server: {message}\n")
    sys.exit(1)
