"""`snapshot-keys`: the keys that entitlement snapshots are signed with."""

from collections.abc import Sequence
from typing import Annotated

import typer

from nozle_server.cli.shared import JsonOption, in_transaction, show
from nozle_server.core.clock import SystemClock
from nozle_server.entitlements import signing
from nozle_server.entitlements.signing_keys import SigningKey, signing_key
from nozle_server.infra.database import Tx

group = typer.Typer(no_args_is_help=True, help="The keys that entitlement snapshots are signed with.")


@group.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """List the published keys, oldest first."""

    async def work(tx: Tx) -> None:
        _show(await signing.published_keys(tx, SystemClock().now()), as_json=as_json)

    in_transaction(work)


@group.command("rotate")
def rotate(
    at_once: Annotated[
        bool,
        typer.Option(
            "--at-once",
            help="The key has become known: use the new one now, and trust no snapshot of the old.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new key. It is published now and signs in ten minutes; the old one stays published while it is of use."""

    async def work(tx: Tx) -> None:
        _show(await signing.rotate(tx, SystemClock().now(), at_once=at_once), as_json=as_json)

    in_transaction(work)


def _show(keys: Sequence[SigningKey], *, as_json: bool) -> None:
    current = signing_key(keys, SystemClock().now())
    rows: list[dict[str, object]] = [
        {"id": one.id, "created_at": one.created_at, "signs": one is current} for one in keys
    ]
    show(rows, as_json=as_json)
