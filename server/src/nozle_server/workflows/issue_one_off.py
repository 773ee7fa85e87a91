"""A one-off invoice: add-ons sold at once, without a subscription. https://getlago.com/docs/guide/invoicing/one-off-invoices"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.catalog import add_on_store
from nozle_server.catalog.model import AddOn
from nozle_server.core.errors import InvalidInput, NotFound, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.money import is_currency
from nozle_server.core.rounding import EXACT, to_cents
from nozle_server.core.text import parse_text
from nozle_server.customers.model import CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.customers.queries import lock_customer
from nozle_server.identity.queries import get_organization
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.drafts import InvoiceDraft
from nozle_server.invoicing.line_taxes import TaxCodes
from nozle_server.invoicing.model import Invoice, InvoiceLine, InvoiceType, LineKind
from nozle_server.invoicing.operations import issue_invoice
from nozle_server.taxes.queries import require_taxes

MAX_FEES = 100
MAX_NET_PAYMENT_TERM = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOffFee:
    """One add-on sold: `units` at `unit_amount_cents` (None: the add-on's), for [from, to] where that is said.

    `tax_codes` None or empty are the add-on's, else the customer's, else the organization's.
    """

    add_on_code: str
    unit_amount_cents: Decimal | None = None
    units: Decimal = Decimal(1)
    invoice_display_name: str | None = None
    description: str | None = None
    tax_codes: tuple[str, ...] = ()
    from_datetime: datetime | None = None
    to_datetime: datetime | None = None


async def issue_one_off(
    tx: Tx,
    seams: Seams,
    *,
    org_id: UUID,
    external_customer_id: str,
    currency: str | None,
    fees: Sequence[OneOffFee],
    net_payment_term: int | None,
    now: datetime,
) -> Invoice:
    """Invoice these fees now: with taxes, credit notes and wallets, without coupons and grace, as Lago.

    NotFound `customer_not_found`, `fees_not_found` for none, `add_on_not_found`, `tax_not_found`; RuleBroken
    `currencies_does_not_match` for another currency than the customer's, who gets this one when it has none yet.
    """
    customer = await lock_customer(tx, org_id, external_customer_id)
    if not fees:
        raise NotFound("there is nothing to invoice", code="fees_not_found")
    if len(fees) > MAX_FEES:
        raise _invalid("fees", "value_is_too_long", "there are too many fees")
    if net_payment_term is not None and not 0 <= net_payment_term <= MAX_NET_PAYMENT_TERM:
        raise _invalid("net_payment_term", "value_is_out_of_range", "these are too many days")
    add_ons = await add_on_store.find_add_ons(tx, org_id, sorted({fee.add_on_code for fee in fees}))
    if {fee.add_on_code for fee in fees} - add_ons.keys():
        raise NotFound("add-on not found", code="add_on_not_found")
    currency = currency or customer.currency or (await get_organization(tx, org_id)).default_currency
    if not is_currency(currency):
        raise _invalid("currency", "value_is_invalid", "the currency is not an ISO 4217 code")
    if customer.currency is None:
        changes = CustomerChanges(customer.external_id, {"currency": currency})
        await upsert_customer(tx, org_id=org_id, changes=changes, now=now)
    elif customer.currency != currency:
        raise RuleBroken(
            "the customer is billed in another currency",
            code="currencies_does_not_match",
            details={"currency": ["currencies_does_not_match"]},
        )
    await require_taxes(tx, org_id, sorted({code for fee in fees for code in fee.tax_codes}))
    lines = [
        fee_line(fee, add_ons[fee.add_on_code], customer_id=customer.id, currency=currency, now=now)
        for fee in fees
    ]
    draft = InvoiceDraft(
        org_id=org_id,
        customer_id=customer.id,
        currency=currency,
        lines=tuple(lines),
        invoice_type=InvoiceType.ONE_OFF,
        tax_codes={
            line.id: TaxCodes(fee.tax_codes or add_ons[fee.add_on_code].tax_codes)
            for line, fee in zip(lines, fees, strict=True)
        },
        coupons=False,
        net_payment_term=net_payment_term,
    )
    invoice = await issue_invoice(tx, seams, draft, now=now)
    if invoice is None:
        raise _invalid("fees", "value_is_out_of_range", "invoices of zero are not wanted for this customer")
    return invoice


def fee_line(
    fee: OneOffFee, add_on: AddOn, *, customer_id: UUID, currency: str, now: datetime
) -> InvoiceLine:
    """The invoice line of a fee; InvalidInput for a negative amount, or a period that ends before it begins."""
    unit = Decimal(add_on.amount_cents) if fee.unit_amount_cents is None else fee.unit_amount_cents
    if unit < 0:
        raise _invalid("unit_amount_cents", "value_is_out_of_range", "a price must not be negative")
    if fee.units < 0:
        raise _invalid("units", "value_is_out_of_range", "units must not be negative")
    start, end = fee.from_datetime, fee.to_datetime
    if (start is None) != (end is None) or (start is not None and end is not None and start > end):
        raise _invalid("from_datetime", "invalid_date_range", "the period needs a beginning and a later end")
    with localcontext(EXACT):
        exact = unit * fee.units
    display_name = parse_text(fee.invoice_display_name, "invoice_display_name", max_bytes=255)
    step = {
        "kind": "add_on",
        "units": fee.units,
        "unit_amount_cents": unit,
        "amount_cents": exact,
        "description": parse_text(fee.description, "description") or add_on.description,
    }
    return InvoiceLine(
        org_id=add_on.org_id,
        id=new_id(),
        kind=LineKind.ADD_ON,
        customer_id=customer_id,
        currency=currency,
        description=display_name or add_on.invoice_display_name or add_on.name,
        units=fee.units,
        exact_amount_cents=exact,
        amount_cents=to_cents(exact),
        created_at=now,
        add_on_id=add_on.id,
        item_code=add_on.code,
        item_name=add_on.name,
        period_start=start,
        # Core's last second belongs to the period.
        period_end=None if end is None else end + timedelta(seconds=1),
        steps=(step,),
    )


def _invalid(field: str, code: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, details={field: [code]})
