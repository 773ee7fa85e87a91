"""`due`: what fell due, failed and was put aside."""

import typer

from nozle_server.cli.shared import JsonOption, in_transaction, say, show
from nozle_server.core.clock import SystemClock
from nozle_server.infra import due
from nozle_server.infra.database import Tx

group = typer.Typer(no_args_is_help=True, help="What fell due, failed and was put aside.")


@group.command("list")
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
        show(rows, as_json=as_json)

    in_transaction(work)


@group.command("retry")
def retry_due() -> None:
    """Take everything that was put aside back into the queue."""

    async def work(tx: Tx) -> None:
        say(f"{await due.retry_parked(tx, SystemClock().now())} taken back")

    in_transaction(work)
