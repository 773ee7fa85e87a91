"""How a customer is billed: its own terms, else the organization's."""

from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from nozle_server.customers import store as customers_store
from nozle_server.customers.model import Customer
from nozle_server.identity.model import Organization
from nozle_server.identity.queries import get_organization
from nozle_server.infra.database import Tx

_T = TypeVar("_T", int, bool)


@dataclass(frozen=True, slots=True)
class Terms:
    """Days to pay, days of grace in which an invoice is a draft, whether invoices of zero are made, and the zone whose
    dates are written on invoices."""

    timezone: str
    net_payment_term: int
    invoice_grace_period: int
    finalize_zero_invoices: bool
    document_number_prefix: str


def terms_of(customer: Customer, organization: Organization) -> Terms:
    return Terms(
        timezone=customer.timezone or organization.timezone,
        net_payment_term=_own(customer.net_payment_term, organization.net_payment_term),
        invoice_grace_period=_own(customer.invoice_grace_period, organization.invoice_grace_period),
        finalize_zero_invoices=_own(customer.finalize_zero_invoices, organization.finalize_zero_invoices),
        document_number_prefix=organization.document_number_prefix,
    )


async def lock_terms(tx: Tx, org_id: UUID, customer_id: UUID) -> Terms:
    """The terms of a customer whose row is held until the transaction ends: what an invoice takes from the customer's
    coupons, credit notes and wallets, no other invoice takes too."""
    customer = await customers_store.lock_by_id(tx, org_id, customer_id)
    return terms_of(customer, await get_organization(tx, org_id))


async def grace_days(tx: Tx, org_id: UUID, customer_id: UUID) -> int:
    """How many days invoices of a customer stay drafts."""
    customer = await customers_store.find_by_id(tx, org_id, customer_id)
    assert customer is not None, "customers are only marked as deleted"
    return terms_of(customer, await get_organization(tx, org_id)).invoice_grace_period


def _own(own: _T | None, otherwise: _T) -> _T:
    return otherwise if own is None else own
