"""Fees in Core's form: invoice lines with what they are about."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import Charge, ChargeFilter, PlanVersion
from nozle_server.core.money import to_major
from nozle_server.core.numbers import to_decimal_text
from nozle_server.core.rounding import EXACT, divide, to_cents
from nozle_server.infra.database import Tx
from nozle_server.invoicing import fee_store
from nozle_server.invoicing.fee_store import LineSubject
from nozle_server.invoicing.model import AppliedTax, InvoiceLine, LineKind

_LAST_SECOND = timedelta(seconds=1)

_ITEM_TYPES = {
    LineKind.CHARGE: "BillableMetric",
    LineKind.ADD_ON: "AddOn",
    LineKind.FIXED_CHARGE: "AddOn",
    LineKind.CREDIT: "WalletTransaction",
    LineKind.COMMITMENT: "Commitment",
    LineKind.SUBSCRIPTION: "Subscription",
}


async def fees_json(tx: Tx, org_id: UUID, lines: Sequence[InvoiceLine]) -> list[dict[str, object]]:
    """Core's fee objects, in the order given."""
    if not lines:
        return []
    about = await fee_store.subjects(tx, org_id, lines)
    versions: dict[UUID, PlanVersion] = {}
    for line in lines:
        if line.plan_version_id is not None and line.plan_version_id not in versions:
            versions[line.plan_version_id] = await plan_store.get_plan_version(
                tx, org_id, line.plan_version_id
            )
    shown = []
    for line in lines:
        version = versions.get(line.plan_version_id) if line.plan_version_id else None
        shown.append(fee_json(line, about[line.id], version))
    return shown


def fee_json(line: InvoiceLine, about: LineSubject, version: PlanVersion | None) -> dict[str, object]:
    """One fee object. Precise amounts are decimal strings in major units, as Lago; `to_date` is the last second."""
    charge, charge_filter = _charge_of(line, version)
    with localcontext(EXACT):
        exact_taxes = (line.exact_amount_cents - line.coupons_exact_amount_cents) * line.taxes_rate / 100
        unit = divide(line.exact_amount_cents, line.units) if line.units else Decimal(0)
    return {
        "lago_id": line.id,
        "nozle_id": line.id,
        "lago_charge_id": line.charge_id,
        "lago_charge_filter_id": line.charge_filter_id,
        "lago_fixed_charge_id": line.fixed_charge_id,
        "lago_invoice_id": line.invoice_id,
        "lago_true_up_fee_id": about.true_up_line_id,
        "lago_true_up_parent_fee_id": line.true_up_of,
        "lago_subscription_id": line.subscription_id,
        "external_subscription_id": about.external_subscription_id,
        "lago_customer_id": line.customer_id,
        "external_customer_id": about.external_customer_id,
        "item": {
            "type": line.kind,
            **_item(line, about, version),
            "invoice_display_name": line.description,
            "filters": charge_filter.values if charge_filter else None,
            "filter_invoice_display_name": charge_filter.invoice_display_name if charge_filter else None,
            "item_type": _ITEM_TYPES[line.kind],
            "grouped_by": line.grouped_by,
        },
        "pay_in_advance": line.pay_in_advance,
        "invoiceable": charge.invoiceable if charge else True,
        "amount_cents": line.amount_cents,
        "amount_currency": line.currency,
        "precise_amount": _major(line.exact_amount_cents, line.currency),
        "precise_total_amount": _major(EXACT.add(line.exact_amount_cents, exact_taxes), line.currency),
        "taxes_amount_cents": line.taxes_amount_cents,
        "taxes_precise_amount": _major(exact_taxes, line.currency),
        "taxes_rate": line.taxes_rate,
        "total_aggregated_units": to_decimal_text(line.units) if line.kind is LineKind.CHARGE else None,
        "total_amount_cents": line.amount_cents + line.taxes_amount_cents,
        "total_amount_currency": line.currency,
        "sub_total_excluding_taxes_amount_cents": to_cents(
            EXACT.subtract(Decimal(line.amount_cents), line.coupons_exact_amount_cents)
        ),
        "sub_total_excluding_taxes_precise_amount_cents": to_decimal_text(
            EXACT.subtract(line.exact_amount_cents, line.coupons_exact_amount_cents)
        ),
        "units": to_decimal_text(line.units),
        "description": line.steps[0].get("description")
        if line.kind is LineKind.ADD_ON and line.steps
        else None,
        "unit_amount_cents": to_cents(unit),
        "precise_unit_amount": _major(unit, line.currency),
        "precise_coupons_amount_cents": to_decimal_text(line.coupons_exact_amount_cents),
        "events_count": line.events_count,
        "payment_status": line.payment_status,
        "created_at": line.created_at,
        "succeeded_at": about.succeeded_at,
        "failed_at": about.failed_at,
        "refunded_at": about.refunded_at,
        "amount_details": {"steps": line.steps},
        "self_billed": False,
        "pricing_unit_details": None,
        "from_date": line.period_start,
        "to_date": last_second(line.period_end),
        "event_transaction_id": line.event_transaction_id,
        "applied_taxes": [
            {"lago_fee_id": line.id, **applied_tax_json(tax, line.currency)} for tax in line.applied_taxes
        ],
    }


def applied_tax_json(tax: AppliedTax, currency: str) -> dict[str, object]:
    """A tax as it was applied, without what it was applied to."""
    return {
        "lago_tax_id": tax.tax_id,
        "tax_name": tax.name,
        "tax_code": tax.code,
        "tax_rate": tax.rate,
        "tax_description": tax.description,
        "amount_cents": tax.amount_cents,
        "amount_currency": currency,
    }


def last_second(end: datetime | None) -> datetime | None:
    """A half-open end as Core writes it: the last second that belongs to the period."""
    return None if end is None else end - _LAST_SECOND


def _charge_of(line: InvoiceLine, version: PlanVersion | None) -> tuple[Charge | None, ChargeFilter | None]:
    charges = version.charges if version else ()
    charge = next((one for one in charges if one.id == line.charge_id), None)
    filters = charge.filters if charge else ()
    return charge, next((one for one in filters if one.id == line.charge_filter_id), None)


def _item(line: InvoiceLine, about: LineSubject, version: PlanVersion | None) -> Mapping[str, object]:
    """What was sold: the metric, the add-on, the plan, or credits."""
    if line.kind is LineKind.CHARGE:
        return {
            "code": line.metric_code,
            "name": about.metric_name,
            "description": about.metric_description,
            "lago_item_id": line.metric_id,
        }
    if line.kind in (LineKind.ADD_ON, LineKind.FIXED_CHARGE):
        return {
            "code": about.add_on_code or line.item_code,
            "name": about.add_on_name or line.item_name,
            "description": about.add_on_description,
            "lago_item_id": line.add_on_id,
        }
    if line.kind is LineKind.CREDIT:
        return {
            "code": "credit",
            "name": "credit",
            "description": None,
            "lago_item_id": line.wallet_transaction_id,
        }
    commitment = version.minimum_commitment if version else None
    return {
        "code": about.plan_code,
        "name": about.plan_name,
        "description": None,
        "lago_item_id": commitment.id
        if commitment and line.kind is LineKind.COMMITMENT
        else line.subscription_id,
    }


def _major(cents: Decimal, currency: str) -> str:
    return to_decimal_text(to_major(cents, currency))
