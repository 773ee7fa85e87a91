"""What the commands have in common: their options, their settings, their transaction, how they answer."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from nozle_server.api.server import new_event_loop
from nozle_server.bootstrap import beside_running_server
from nozle_server.core import json
from nozle_server.core.errors import InvalidInput
from nozle_server.identity import queries as identity_queries
from nozle_server.infra.change_bus import wake_everybody
from nozle_server.infra.database import Tx
from nozle_server.infra.logging import configure_logging
from nozle_server.infra.settings import Settings
from nozle_server.serving.stopping import take_signals

OrganizationOption = Annotated[
    str | None,
    typer.Option(
        "--organization", envvar="NOZLE_ORGANIZATION_ID", help="Its id; not needed when there is only one."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where the embedded database lies.")]
DatabaseOption = Annotated[str | None, typer.Option("--database-url", help="An external PostgreSQL instead.")]


def settings_with(**flags: object) -> Settings:
    """Settings from the environment, with the flags that were given on top."""
    given = {name: value for name, value in flags.items() if value is not None}
    return Settings(**given)  # type: ignore[arg-type]  # pydantic checks the values


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command's coroutine to its end, on the event loop that the server uses. A signal ends it."""
    take_signals()
    run_server(work)


def run_server(work: Coroutine[Any, Any, None]) -> None:
    """As `run`, for work that decides itself what signals mean to it."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work)


def in_transaction(work: Callable[[Tx], Awaitable[None]]) -> None:
    """Run a command's work on the running server's database, in one transaction."""
    settings = settings_with()
    configure_logging("warning")

    async def on_the_database() -> None:
        async with beside_running_server(settings) as database:
            await database.run(work)
            await wake_everybody(database)

    run(on_the_database())


async def find_organization_id(tx: Tx, given: str | None) -> UUID:
    """The organization that was named; unnamed, the only one there is. InvalidInput, NotFound."""
    if given is not None:
        try:
            return (await identity_queries.get_organization(tx, UUID(given))).id
        except ValueError:
            raise InvalidInput("an organization's id is a UUID") from None
    found = await identity_queries.list_organizations(tx)
    if len(found) != 1:
        raise InvalidInput(f"there are {len(found)} organizations: say which with --organization")
    return found[0].id


def show(value: dict[str, object] | list[dict[str, object]], *, as_json: bool) -> None:
    """Print one object or several: as JSON, or a line for each of its fields."""
    if as_json:
        say(json.dumps(value).decode())
        return
    rows = value if isinstance(value, list) else [value]
    say("\n\n".join("\n".join(f"{name:32} {_plain(item)}" for name, item in row.items()) for row in rows))


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def say(text: str) -> None:
    """A line for the person at the terminal."""
    typer.echo(text)
