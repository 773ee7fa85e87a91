"""The commands that run a server: serve, dev, worker; and migrate, the step they begin with."""

import os
from typing import Annotated

import typer

from nozle_server import bootstrap
from nozle_server.cli.shared import DatabaseOption, DataDirOption, run, run_server, say, settings_with
from nozle_server.infra.logging import configure_logging
from nozle_server.serving import development, production

WorkersOption = Annotated[
    int | None,
    typer.Option(help="Processes that answer requests; with more than one, another does the jobs."),
]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: WorkersOption = None,
    data_dir: DataDirOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Serve the API, with its worker, until SIGTERM or Ctrl-C."""
    settings = settings_with(
        host=host, port=port, workers=workers, data_dir=data_dir, database_url=database_url
    )
    configure_logging(settings.log_level)
    run_server(production.serve(settings, notice=say))


def dev(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: WorkersOption = None,
    data_dir: DataDirOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Serve with a test organization, the example catalog and the demonstration (what `make run` does)."""
    settings = settings_with(
        host=host, port=port, workers=workers, data_dir=data_dir, database_url=database_url
    )
    trace = os.environ.get("TRACE") or None
    run_server(development.serve(settings, trace=trace, demo=os.environ.get("DEMO", "1") != "0", notice=say))


def worker(data_dir: DataDirOption = None, database_url: DatabaseOption = None) -> None:
    """Run jobs only, without the API: a second process on one DATABASE_URL."""
    settings = settings_with(data_dir=data_dir, database_url=database_url)
    configure_logging(settings.log_level)
    run_server(production.work(settings, notice=say))


def migrate(data_dir: DataDirOption = None, database_url: DatabaseOption = None) -> None:
    """Bring the database to this release's schema and exit; `serve` does it by itself."""
    settings = settings_with(data_dir=data_dir, database_url=database_url)

    async def work() -> None:
        async with bootstrap.beside_running_server(settings):
            say("the database is up to date")

    run(work())
