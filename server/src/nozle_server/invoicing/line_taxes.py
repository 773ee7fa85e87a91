"""Which taxes the lines of a bill pay: one rule for what is billed and for what is only shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from nozle_server.catalog.model import PlanVersion
from nozle_server.infra.database import Tx
from nozle_server.invoicing.model import InvoiceLine, LineKind
from nozle_server.taxes.apply import choose
from nozle_server.taxes.model import Tax
from nozle_server.taxes.queries import customer_or_default_taxes, find_taxes


@dataclass(frozen=True, slots=True)
class TaxCodes:
    """What a line's charge, fixed charge, commitment or add-on names, and what its plan does. A code whose tax is gone counts
    as not named, so both are kept apart until the taxes are known."""

    own: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()


def tax_codes_of(version: PlanVersion, line: InvoiceLine) -> TaxCodes:
    """The codes that a plan version gives one of its lines."""
    return TaxCodes(_own_codes(version, line), version.tax_codes)


def _own_codes(version: PlanVersion, line: InvoiceLine) -> tuple[str, ...]:
    if line.kind is LineKind.COMMITMENT:
        return version.minimum_commitment.tax_codes if version.minimum_commitment else ()
    charges = {one.id: one.tax_codes for one in version.charges}
    fixed_charges = {one.id: one.tax_codes for one in version.fixed_charges}
    named = line.charge_id or line.fixed_charge_id
    return {**charges, **fixed_charges}.get(named, ()) if named else ()


async def find_line_taxes(
    tx: Tx, org_id: UUID, customer_id: UUID, lines: Sequence[TaxCodes]
) -> list[tuple[Tax, ...]]:
    """The taxes each line pays: its own, else its plan's, else the customer's, else the organization's."""
    codes = {code for of_line in lines for code in (*of_line.own, *of_line.plan)}
    known = await find_taxes(tx, org_id, sorted(codes)) if codes else {}
    otherwise = await customer_or_default_taxes(tx, org_id, customer_id)
    return [choose(of_line.own, of_line.plan, known=known, otherwise=otherwise) for of_line in lines]
