"""`organizations`: the merchants of this server."""

from decimal import Decimal
from typing import Annotated

import typer

from nozle_server.cli.shared import JsonOption, OrganizationOption, find_organization_id, in_transaction, show
from nozle_server.core.clock import SystemClock
from nozle_server.core.numbers import parse_amount
from nozle_server.entitlements.news import rights_of_everybody
from nozle_server.identity import operations as identity
from nozle_server.identity import queries as identity_queries
from nozle_server.identity.model import Mode, Organization
from nozle_server.infra.change_bus import publish_once
from nozle_server.infra.database import Tx
from nozle_server.workflows.onboarding import open_organization

group = typer.Typer(no_args_is_help=True, help="The merchants of this server.")


@group.command("create")
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
        show(shown, as_json=as_json)

    in_transaction(work)


@group.command("list")
def list_organizations(as_json: JsonOption = False) -> None:
    """List the organizations."""

    async def work(tx: Tx) -> None:
        rows = [_organization_json(one) for one in await identity_queries.list_organizations(tx)]
        show(rows, as_json=as_json)

    in_transaction(work)


@group.command("update")
def update_organization(
    organization: OrganizationOption = None,
    name: str | None = None,
    timezone: str | None = None,
    default_currency: str | None = None,
    publishable_key_access: Annotated[
        str | None, typer.Option(help="open, customer_session or catalog_only.")
    ] = None,
    show_margin_to_publishable_keys: bool | None = None,
    workspace_channel_for_publishable_keys: bool | None = None,
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
        "workspace_channel_for_publishable_keys": workspace_channel_for_publishable_keys,
        "margin_enforcement": margin_enforcement,
        "min_margin_percent": floor,
    }
    given = {key: value for key, value in settings.items() if value is not None}

    async def work(tx: Tx) -> None:
        org_id = await find_organization_id(tx, organization)
        updated = await identity.update_organization(tx, org_id=org_id, settings=given)
        await publish_once(tx, rights_of_everybody(org_id))
        show(_organization_json(updated), as_json=as_json)

    in_transaction(work)


def _organization_json(organization: Organization) -> dict[str, object]:
    return {
        "organization_id": organization.id,
        "name": organization.name,
        "mode": organization.mode.value,
        "timezone": organization.timezone,
        "default_currency": organization.default_currency,
        "publishable_key_access": organization.publishable_key_access,
        "show_margin_to_publishable_keys": organization.show_margin_to_publishable_keys,
        "workspace_channel_for_publishable_keys": organization.workspace_channel_for_publishable_keys,
        "margin_enforcement": organization.margin_enforcement,
        "min_margin_percent": organization.min_margin_percent,
        "test_clock": organization.test_now,
        "created_at": organization.created_at,
    }
