"""`keys`: API keys of an organization."""

from typing import Annotated
from uuid import UUID

import typer

from nozle_server.cli.shared import JsonOption, OrganizationOption, find_organization_id, in_transaction, show
from nozle_server.core.clock import SystemClock
from nozle_server.identity import operations as identity
from nozle_server.identity import queries as identity_queries
from nozle_server.identity.model import ApiKey, KeyKind
from nozle_server.infra.database import Tx

group = typer.Typer(no_args_is_help=True, help="API keys of an organization.")


@group.command("create")
def create_key(
    organization: OrganizationOption = None,
    publishable: Annotated[bool, typer.Option("--publishable", help="A pk_ instead of an sk_.")] = False,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once."""

    async def work(tx: Tx) -> None:
        owner = await identity.lock_organization(tx, await find_organization_id(tx, organization))
        kind = KeyKind.PUBLISHABLE if publishable else KeyKind.SECRET
        key, text = await identity.create_key(
            tx, organization=owner, kind=kind, name=name, now=SystemClock().now()
        )
        show({**_key_json(key), "key": text}, as_json=as_json)

    in_transaction(work)


@group.command("list")
def list_keys(organization: OrganizationOption = None, as_json: JsonOption = False) -> None:
    """List keys; of each only the beginning and the end are known."""

    async def work(tx: Tx) -> None:
        found = await identity_queries.list_keys(tx, await find_organization_id(tx, organization))
        show([_key_json(key) for key in found], as_json=as_json)

    in_transaction(work)


@group.command("revoke")
def revoke_key(key_id: UUID, organization: OrganizationOption = None, as_json: JsonOption = False) -> None:
    """End a key; every process refuses it within a second."""

    async def work(tx: Tx) -> None:
        org_id = await find_organization_id(tx, organization)
        key = await identity.revoke_key(tx, org_id=org_id, key_id=key_id, now=SystemClock().now())
        show(_key_json(key), as_json=as_json)

    in_transaction(work)


def _key_json(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "kind": key.kind.value,
        "hint": key.hint,
        "name": key.name,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
