"""Use cases that only look at taxes."""

from collections.abc import Sequence
from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.core.text import parse_id
from nozle_server.infra.database import Tx
from nozle_server.taxes import store
from nozle_server.taxes.model import Tax


async def get_tax(tx: Tx, org_id: UUID, code: str) -> Tax:
    """The tax, by code; NotFound `tax_not_found`."""
    tax = await store.find_tax(tx, org_id, parse_id(code, "code"))
    if tax is None:
        raise unknown_tax()
    return tax


async def find_taxes(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, Tax]:
    """Those of these taxes that exist, by code, in order of code."""
    return await store.find_taxes(tx, org_id, codes) if codes else {}


async def require_taxes(tx: Tx, org_id: UUID, codes: Sequence[str]) -> dict[str, Tax]:
    """As `find_taxes`; NotFound `tax_not_found` when one of them does not exist."""
    found = await find_taxes(tx, org_id, [parse_id(code, "tax_codes") for code in codes])
    if set(codes) - found.keys():
        raise unknown_tax()
    return found


async def taxes_of_customers(
    tx: Tx, org_id: UUID, customer_ids: Sequence[UUID]
) -> dict[UUID, tuple[Tax, ...]]:
    """The customers' own taxes, in order of code; empty for those to whom the organization's apply."""
    own = await store.taxes_of_customers(tx, org_id, customer_ids)
    return {one: own.get(one, ()) for one in customer_ids}


async def customer_or_default_taxes(tx: Tx, org_id: UUID, customer_id: UUID) -> tuple[Tax, ...]:
    """The customer's own taxes, else those applied to the organization; in order of code."""
    own = await store.taxes_of_customer(tx, org_id, customer_id)
    return own or await store.taxes_of_organization(tx, org_id)


async def count_customers(tx: Tx, org_id: UUID, taxes: Sequence[Tax]) -> dict[UUID, int]:
    """How many customers pay each of these taxes, directly or by the organization's default; by the tax's id."""
    return await store.count_customers(tx, org_id, [tax.id for tax in taxes]) if taxes else {}


def unknown_tax() -> NotFound:
    return NotFound("tax not found", code="tax_not_found")
