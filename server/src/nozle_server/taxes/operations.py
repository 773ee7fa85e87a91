"""Define, change and remove taxes, and say whose own they are."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import UNSET

from nozle_server.core.errors import Conflict, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra.database import Tx
from nozle_server.taxes import store
from nozle_server.taxes.drafts import TaxChanges, TaxDraft
from nozle_server.taxes.model import Tax
from nozle_server.taxes.queries import require_taxes, unknown_tax


async def create_tax(tx: Tx, *, org_id: UUID, draft: TaxDraft, now: datetime) -> Tax:
    """A new tax; Conflict `value_already_exist` when its code is taken."""
    tax = Tax(
        org_id=org_id,
        id=new_id(),
        code=parse_id(draft.code, "code"),
        name=parse_id(draft.name, "name"),
        description=parse_text(draft.description, "description"),
        rate=_rate(draft.rate),
        applied_to_organization=draft.applied_to_organization,
        created_at=now,
        updated_at=now,
    )
    if not await store.insert_tax(tx, tax):
        raise Conflict(
            "a tax with this code exists",
            code="value_already_exist",
            details={"code": ["value_already_exist"]},
        )
    return tax


async def update_tax(tx: Tx, *, org_id: UUID, code: str, changes: TaxChanges, now: datetime) -> Tax:
    """Change what is given; it reaches the invoices finalized from now on. A tax keeps its code: versions of plans,
    which never change, name it by that."""
    tax = await _lock_tax(tx, org_id, code)
    if changes.code not in (UNSET, tax.code):
        raise RuleBroken("a tax keeps its code", code="code_is_fixed", details={"code": ["value_is_fixed"]})
    tax = replace(tax, updated_at=now)
    if changes.name is not UNSET:
        tax = replace(tax, name=parse_id(changes.name, "name"))
    if changes.description is not UNSET:
        tax = replace(tax, description=parse_text(changes.description, "description"))
    if changes.rate is not UNSET:
        tax = replace(tax, rate=_rate(changes.rate))
    if changes.applied_to_organization is not UNSET:
        tax = replace(tax, applied_to_organization=changes.applied_to_organization)
    await store.update_tax(tx, tax)
    return tax


async def delete_tax(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> Tax:
    """Remove a tax from everything it applies to; finalized invoices keep what they say."""
    tax = await _lock_tax(tx, org_id, code)
    await store.delete_tax(tx, org_id, tax.id, now)
    return tax


async def set_customer_taxes(tx: Tx, org_id: UUID, customer_id: UUID, tax_codes: Sequence[str]) -> None:
    """Give the customer exactly these taxes; with none the organization's apply. NotFound `tax_not_found`."""
    taxes = await require_taxes(tx, org_id, tax_codes)
    await store.set_customer_taxes(tx, org_id, customer_id, [tax.id for tax in taxes.values()])


async def _lock_tax(tx: Tx, org_id: UUID, code: str) -> Tax:
    tax = await store.lock_tax(tx, org_id, parse_id(code, "code"))
    if tax is None:
        raise unknown_tax()
    return tax


def _rate(rate: Decimal) -> Decimal:
    return parse_amount(Decimal(rate), "rate", minimum=Decimal(0))
