"""`apply`: a catalog file becomes what is stored."""

from pathlib import Path
from typing import Annotated

import typer

from nozle_server.cli.shared import OrganizationOption, find_organization_id, in_transaction, say
from nozle_server.core.clock import SystemClock
from nozle_server.identity import queries as identity_queries
from nozle_server.infra.database import Tx
from nozle_server.infra.yaml_file import read_yaml
from nozle_server.workflows.apply_catalog import apply_catalog, read_catalog
from nozle_server.workflows.catalog_difference import Difference


def apply(
    file: Annotated[Path, typer.Argument(help="A YAML file with metrics, features, plans and cost models.")],
    organization: OrganizationOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, change nothing.")] = False,
) -> None:
    """Show how a catalog file differs from what is stored, and apply it. Twice is a no-op."""
    catalog = read_catalog(read_yaml(file))

    async def work(tx: Tx) -> None:
        org_id = await find_organization_id(tx, organization)
        now = await identity_queries.get_time(tx, org_id, SystemClock().now())
        differences = await apply_catalog(tx, org_id=org_id, catalog=catalog, now=now)
        say(show_differences(differences))
        if dry_run:
            raise _DryRun

    try:
        in_transaction(work)
    except _DryRun:
        say("dry run: nothing was changed")


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
