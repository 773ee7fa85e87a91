"""What is to be invoiced, before coupons, taxes and credits: the input of `issue_invoice`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from nozle_server.invoicing.line_taxes import TaxCodes
from nozle_server.invoicing.model import InvoiceLine, InvoiceSubscription, InvoiceType


@dataclass(frozen=True, slots=True)
class ProgressiveCredit:
    """What an earlier progressive invoice charged for usage that this invoice charges again."""

    invoice_id: UUID
    number: str
    amount_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceDraft:
    """Lines of one customer in one currency.

    `tax_codes` are a line's own and its plan's, by its id: without any the customer's taxes hold, else the organization's.
    `coupons` says whether the customer's coupons reduce it, `may_wait` whether the customer's grace period makes it a draft
    first.
    """

    org_id: UUID
    customer_id: UUID
    currency: str
    lines: tuple[InvoiceLine, ...]
    invoice_type: InvoiceType = InvoiceType.SUBSCRIPTION
    subscriptions: tuple[InvoiceSubscription, ...] = ()
    tax_codes: Mapping[UUID, TaxCodes] = field(default_factory=dict)
    progressive_credits: tuple[ProgressiveCredit, ...] = ()
    coupons: bool = True
    taxes: bool = True
    credits: bool = True
    may_wait: bool = False
    net_payment_term: int | None = None
