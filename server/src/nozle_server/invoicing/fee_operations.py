"""What a merchant may change of a line by itself: those paid in advance that are never invoiced."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.core.errors import NotFound, NotPossible
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import fee_store
from nozle_server.invoicing.model import InvoiceLine, LineKind

FEE_DELETED = "fee.deleted"


async def set_fee_payment_status(
    tx: Tx, *, org_id: UUID, line_id: UUID, status: str, now: datetime
) -> InvoiceLine:
    """Where the payment of a fee stands that the merchant collects without an invoice; NotPossible `invoiceable_fee` for
    any other, whose payment is its invoice's."""
    line = await _lock(tx, org_id, line_id)
    if line.invoice_id is not None or await _is_invoiceable(tx, line):
        raise NotPossible("the fee is paid with its invoice", code="invoiceable_fee")
    await fee_store.set_payment_of_line(tx, line, status, now)
    return replace(line, payment_status=status)


async def delete_fee(tx: Tx, seams: Seams, *, org_id: UUID, line_id: UUID) -> InvoiceLine:
    """Take away a fee that is on no invoice; NotPossible `invoiced_fee` for any other."""
    line = await _lock(tx, org_id, line_id)
    if line.invoice_id is not None:
        raise NotPossible("the fee is on an invoice", code="invoiced_fee")
    await fee_store.delete_line(tx, line)
    payload = {"amount_cents": line.amount_cents, "event_transaction_id": line.event_transaction_id}
    await seams.change_bus.publish(tx, Change(org_id, FEE_DELETED, str(line.id), payload))
    return line


def unknown_fee() -> NotFound:
    return NotFound("fee not found", code="fee_not_found")


async def _lock(tx: Tx, org_id: UUID, line_id: UUID) -> InvoiceLine:
    line = await fee_store.lock_line(tx, org_id, line_id)
    if line is None:
        raise unknown_fee()
    return line


async def _is_invoiceable(tx: Tx, line: InvoiceLine) -> bool:
    if line.kind is not LineKind.CHARGE or line.plan_version_id is None:
        return True
    version = await plan_store.get_plan_version(tx, line.org_id, line.plan_version_id)
    return next((charge.invoiceable for charge in version.charges if charge.id == line.charge_id), True)
