"""`nozle-server`: serve, work, and the commands beside a running server."""

import asyncio
import errno
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError

from nozle_server import bootstrap, serving
from nozle_server.api.server import new_event_loop
from nozle_server.bootstrap import UnsafeDatabaseError, beside_running_server
from nozle_server.core import json
from nozle_server.core.clock import SystemClock
from nozle_server.core.errors import InvalidInput, NozleError
from nozle_server.core.numbers import parse_amount
from nozle_server.identity import operations as identity
from nozle_server.identity import queries as identity_queries
from nozle_server.identity.model import ApiKey, KeyKind, Mode, Organization
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.infra.durability import UnsupportedPostgresError
from nozle_server.infra.embedded_postgres import DataDirectoryInUse, EmbeddedPostgresError
from nozle_server.infra.logging import configure_logging
from nozle_server.infra.settings import Settings
from nozle_server.infra.yaml_file import read_yaml
from nozle_server.workflows.apply_catalog import Difference, apply_catalog, read_catalog
from nozle_server.workflows.onboarding import open_organization

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Billing for AI products, exact to the last digit."
)
organizations = typer.Typer(no_args_is_help=True, help="The merchants of this server.")
keys = typer.Typer(no_args_is_help=True, help="API keys of an organization.")
due_items = typer.Typer(no_args_is_help=True, help="What fell due, failed and was put aside.")
app.add_typer(organizations, name="organizations")
app.add_typer(keys, name="keys")
app.add_typer(due_items, name="due")

OrganizationOption = Annotated[
    str | None,
    typer.Option(
        "--organization", envvar="NOZLE_ORGANIZATION_ID", help="Its id; not needed when there is only one."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where the embedded database lies.")]
DatabaseOption = Annotated[str | None, typer.Option("--database-url", help="An external PostgreSQL instead.")]

_EXPECTED = (
    NozleError,
    DataDirectoryInUse,
    EmbeddedPostgresError,
    UnsafeDatabaseError,
    UnsupportedPostgresError,
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


def _settings(**flags: object) -> Settings:
    """Settings from the environment, with the flags that were given on top."""
    given = {name: value for name, value in flags.items() if value is not None}
    return Settings(**given)  # type: ignore[arg-type]  # pydantic checks the values


def _run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: DataDirOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Serve the API, with its worker, until SIGTERM or Ctrl-C."""
    settings = _settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    configure_logging(settings.log_level)
    _run(serving.serve(settings, notice=_say))


@app.command()
def dev(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: DataDirOption = None,
    database_url: DatabaseOption = None,
) -> None:
    """Serve with a test organization, the example catalog and the demonstration (what `make run` does)."""
    settings = _settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    trace = os.environ.get("TRACE") or None
    _run(
        serving.serve_for_development(
            settings, trace=trace, demo=os.environ.get("DEMO", "1") != "0", notice=_say
        )
    )


@app.command()
def worker(data_dir: DataDirOption = None, database_url: DatabaseOption = None) -> None:
    """Run jobs only, without the API: a second process on one DATABASE_URL."""
    settings = _settings(data_dir=data_dir, database_url=database_url)
    configure_logging(settings.log_level)
    _run(serving.work(settings, notice=_say))


@app.command()
def migrate(data_dir: DataDirOption = None, database_url: DatabaseOption = None) -> None:
    """Bring the database to this release's schema and exit; `serve` does it by itself."""
    settings = _settings(data_dir=data_dir, database_url=database_url)

    async def work() -> None:
        async with bootstrap.beside_running_server(settings):
            _say("the database is up to date")

    _run(work())


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A YAML file with metrics, features, plans and cost models.")],
    organization: OrganizationOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing.")] = False,
) -> None:
    """Show how a catalog file differs from what is stored, and apply it. Twice is a no-op."""
    catalog = read_catalog(read_yaml(file))

    async def work(tx: Tx) -> None:
        org_id = await _organization_id(tx, organization)
        now = await identity_queries.get_time(tx, org_id, SystemClock().now())
        differences = await apply_catalog(tx, org_id=org_id, catalog=catalog, now=now)
        _say(show_differences(differences))
        if dry_run:
            raise _DryRun

    try:
        _in_transaction(work)
    except _DryRun:
        _say("dry run: nothing was changed")


class _DryRun(Exception):
    """Rolls the transaction back."""


def show_differences(differences: list[Difference]) -> str:
    """One line an object, its changes below."""
    if not differences:
        return "no difference: the catalog is as the file says"
    lines = []
    for one in differences:
        lines.append(f"{one.sign} {one.kind} {one.code}")
        lines.extend(f"    {change}" for change in one.changes)
    return "\n".join(lines)


@organizations.command("create")
def create_organization(
    name: str,
    live: Annotated[bool, typer.Option("--live", help="In live mode; it has no test clock.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an organization with a key of each kind. The keys are shown this once."""

    async def work(tx: Tx) -> None:
        mode = Mode.LIVE if live else Mode.TEST
        made, secret, publishable = await open_organization(tx, name=name, mode=mode, now=SystemClock().now())
        shown = {**_organization_json(made), "secret_key": secret, "publishable_key": publishable}
        _print(shown, as_json=as_json)

    _in_transaction(work)


@organizations.command("list")
def list_organizations(as_json: JsonOption = False) -> None:
    """List the organizations."""

    async def work(tx: Tx) -> None:
        rows = [_organization_json(one) for one in await identity_queries.list_organizations(tx)]
        _print(rows, as_json=as_json)

    _in_transaction(work)


@organizations.command("update")
def update_organization(
    organization: OrganizationOption = None,
    name: str | None = None,
    timezone: str | None = None,
    default_currency: str | None = None,
    publishable_key_access: Annotated[
        str | None, typer.Option(help="open, customer_session or catalog_only.")
    ] = None,
    show_margin_to_publishable_keys: bool | None = None,
    margin_enforcement: Annotated[str | None, typer.Option(help="observe, warn or deny.")] = None,
    min_margin_percent: Annotated[str | None, typer.Option(help="The floor of can(); a decimal.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change an organization's settings."""
    floor: Decimal | None = None
    if min_margin_percent is not None:
        floor = parse_amount(min_margin_percent, "min_margin_percent")
    settings: dict[str, object] = {
        "name": name,
        "timezone": timezone,
        "default_currency": default_currency,
        "publishable_key_access": publishable_key_access,
        "show_margin_to_publishable_keys": show_margin_to_publishable_keys,
        "margin_enforcement": margin_enforcement,
        "min_margin_percent": floor,
    }
    given = {key: value for key, value in settings.items() if value is not None}

    async def work(tx: Tx) -> None:
        org_id = await _organization_id(tx, organization)
        _print(
            _organization_json(await identity.update_organization(tx, org_id=org_id, settings=given)),
            as_json=as_json,
        )

    _in_transaction(work)


@keys.command("create")
def create_key(
    organization: OrganizationOption = None,
    publishable: Annotated[bool, typer.Option("--publishable", help="A pk_ instead of an sk_.")] = False,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once."""

    async def work(tx: Tx) -> None:
        owner = await identity.lock_organization(tx, await _organization_id(tx, organization))
        kind = KeyKind.PUBLISHABLE if publishable else KeyKind.SECRET
        key, text = await identity.create_key(
            tx, organization=owner, kind=kind, name=name, now=SystemClock().now()
        )
        _print({**_key_json(key), "key": text}, as_json=as_json)

    _in_transaction(work)


@keys.command("list")
def list_keys(organization: OrganizationOption = None, as_json: JsonOption = False) -> None:
    """List keys; of each only the beginning and the end are known."""

    async def work(tx: Tx) -> None:
        found = await identity_queries.list_keys(tx, await _organization_id(tx, organization))
        _print([_key_json(key) for key in found], as_json=as_json)

    _in_transaction(work)


@keys.command("revoke")
def revoke_key(key_id: UUID, organization: OrganizationOption = None, as_json: JsonOption = False) -> None:
    """End a key; every process refuses it within a second."""

    async def work(tx: Tx) -> None:
        org_id = await _organization_id(tx, organization)
        key = await identity.revoke_key(tx, org_id=org_id, key_id=key_id, now=SystemClock().now())
        _print(_key_json(key), as_json=as_json)

    _in_transaction(work)


@due_items.command("list")
def list_due(as_json: JsonOption = False) -> None:
    """List what was put aside, with its error."""

    async def work(tx: Tx) -> None:
        rows: list[dict[str, object]] = [
            {
                "organization_id": item.org_id,
                "kind": item.kind,
                "subject_id": item.subject_id,
                "due_at": item.due_at,
                "parked_at": parked_at,
                "error": error,
            }
            for item, parked_at, error in await due.list_parked(tx)
        ]
        _print(rows, as_json=as_json)

    _in_transaction(work)


@due_items.command("retry")
def retry_due() -> None:
    """Take everything that was put aside back into the queue."""

    async def work(tx: Tx) -> None:
        _say(f"{await due.retry_parked(tx, SystemClock().now())} taken back")

    _in_transaction(work)


def _in_transaction(work: Callable[[Tx], Awaitable[None]]) -> None:
    """Run a command's work on the running server's database, in one transaction."""
    settings = _settings()
    configure_logging("warning")

    async def run() -> None:
        async with beside_running_server(settings) as database:
            await database.run(work)

    _run(run())


async def _organization_id(tx: Tx, given: str | None) -> UUID:
    if given is not None:
        try:
            return (await identity_queries.get_organization(tx, UUID(given))).id
        except ValueError:
            raise InvalidInput("an organization's id is a UUID") from None
    found = await identity_queries.list_organizations(tx)
    if len(found) != 1:
        raise InvalidInput(f"there are {len(found)} organizations: say which with --organization")
    return found[0].id


def _organization_json(organization: Organization) -> dict[str, object]:
    return {
        "organization_id": organization.id,
        "name": organization.name,
        "mode": organization.mode.value,
        "timezone": organization.timezone,
        "default_currency": organization.default_currency,
        "publishable_key_access": organization.publishable_key_access,
        "show_margin_to_publishable_keys": organization.show_margin_to_publishable_keys,
        "margin_enforcement": organization.margin_enforcement,
        "min_margin_percent": organization.min_margin_percent,
        "test_clock": organization.test_now,
        "created_at": organization.created_at,
    }


def _key_json(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "kind": key.kind.value,
        "hint": key.hint,
        "name": key.name,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _print(value: dict[str, object] | list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(value).decode())
        return
    rows = value if isinstance(value, list) else [value]
    _say("\n\n".join("\n".join(f"{name:32} {_plain(item)}" for name, item in row.items()) for row in rows))


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def _say(text: str) -> None:
    typer.echo(text)
