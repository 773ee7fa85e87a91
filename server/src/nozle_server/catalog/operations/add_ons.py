"""Define, change and remove add-ons. That the taxes they name exist is the caller's to see to: taxes stand above."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from msgspec import UNSET

from nozle_server.catalog import add_on_store
from nozle_server.catalog.add_on_drafts import AddOnChanges, AddOnDraft
from nozle_server.catalog.model import AddOn
from nozle_server.catalog.queries import unknown_add_on
from nozle_server.core.errors import Conflict, InvalidInput, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.money import is_currency
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra.database import Tx

MAX_AMOUNT_CENTS = 10**15


async def create_add_on(tx: Tx, *, org_id: UUID, draft: AddOnDraft, now: datetime) -> AddOn:
    """A new add-on; Conflict `value_already_exist` when its code is taken."""
    add_on = AddOn(
        org_id=org_id,
        id=new_id(),
        code=parse_id(draft.code, "code"),
        name=parse_id(draft.name, "name"),
        invoice_display_name=_display_name(draft.invoice_display_name),
        description=parse_text(draft.description, "description"),
        amount_cents=_amount(draft.amount_cents),
        currency=_currency(draft.amount_currency),
        tax_codes=_tax_codes(draft.tax_codes),
        created_at=now,
        updated_at=now,
    )
    if not await add_on_store.insert_add_on(tx, add_on):
        raise Conflict(
            "an add-on with this code exists",
            code="value_already_exist",
            details={"code": ["value_already_exist"]},
        )
    return add_on


async def update_add_on(tx: Tx, *, org_id: UUID, code: str, changes: AddOnChanges, now: datetime) -> AddOn:
    """Change what is given, for what is sold from now on. An add-on keeps its code: fixed charges name it by that."""
    add_on = await _lock_add_on(tx, org_id, code)
    if changes.code not in (UNSET, add_on.code):
        raise RuleBroken(
            "an add-on keeps its code", code="code_is_fixed", details={"code": ["value_is_fixed"]}
        )
    add_on = replace(add_on, updated_at=now)
    if changes.name is not UNSET:
        add_on = replace(add_on, name=parse_id(changes.name, "name"))
    if changes.invoice_display_name is not UNSET:
        add_on = replace(add_on, invoice_display_name=_display_name(changes.invoice_display_name))
    if changes.description is not UNSET:
        add_on = replace(add_on, description=parse_text(changes.description, "description"))
    if changes.amount_cents is not UNSET:
        add_on = replace(add_on, amount_cents=_amount(changes.amount_cents))
    if changes.amount_currency is not UNSET:
        add_on = replace(add_on, currency=_currency(changes.amount_currency))
    if changes.tax_codes is not UNSET:
        add_on = replace(add_on, tax_codes=_tax_codes(changes.tax_codes))
    await add_on_store.update_add_on(tx, add_on)
    return add_on


async def delete_add_on(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> AddOn:
    """Nobody sells it any more; plans and invoices that name it keep it."""
    add_on = await _lock_add_on(tx, org_id, code)
    await add_on_store.delete_add_on(tx, org_id, add_on.id, now)
    return add_on


async def _lock_add_on(tx: Tx, org_id: UUID, code: str) -> AddOn:
    add_on = await add_on_store.lock_add_on(tx, org_id, parse_id(code, "code"))
    if add_on is None:
        raise unknown_add_on()
    return add_on


def _amount(amount_cents: int) -> int:
    if not 0 < amount_cents <= MAX_AMOUNT_CENTS:
        raise InvalidInput(
            "amount_cents must be more than 0", details={"amount_cents": ["value_is_out_of_range"]}
        )
    return amount_cents


def _currency(currency: str) -> str:
    if not is_currency(currency):
        raise InvalidInput(
            "amount_currency is not an ISO 4217 code", details={"amount_currency": ["value_is_invalid"]}
        )
    return currency


def _display_name(name: str | None) -> str | None:
    return parse_text(name, "invoice_display_name", max_bytes=255) or None


def _tax_codes(codes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(parse_id(code, "tax_codes") for code in codes))
