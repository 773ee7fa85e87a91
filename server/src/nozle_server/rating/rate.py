"""Price usage by a charge model: the one entry to this folder.

Amounts are exact decimals in minor units until the line is settled by one rounding, half away from zero.
Usage below zero (more removed than added) is priced as no usage at all, and no line is below zero, as in
Lago: money goes back to a customer by a credit note, never by a negative price.
"""

from decimal import Decimal, localcontext
from typing import assert_never

from nozle_server.catalog.charge_models import (
    ChargeModel,
    Graduated,
    Package,
    Percentage,
    Standard,
    Volume,
)
from nozle_server.core.rounding import EXACT, to_cents
from nozle_server.rating import graduated, package, percentage, standard, volume
from nozle_server.rating.lines import RatedLine, Step, Usage, flat

__all__ = ["RatedLine", "Step", "Usage", "marginal_price_cents", "needs_transactions", "rate"]

_ZERO = Decimal(0)


def rate(model: ChargeModel, usage: Usage, *, currency: str) -> RatedLine:
    """Price a period's usage in the currency's minor units (cents, yen, fils).

    ValueError when `needs_transactions(model)` and `usage.transactions` does not have every event;
    InvalidInput for an unknown currency.
    """
    if usage.units < 0:
        return RatedLine(_ZERO, _ZERO, 0, ())
    with localcontext(EXACT):
        steps = _steps(model, usage, currency)
        total = sum((step.amount_cents for step in steps), _ZERO)
        if total < 0:
            # Only a percentage comes here: of refunds, where a maximum bounds the sales but not the refunds.
            steps, total = (*steps, flat("floor_at_zero", -total)), _ZERO
    return RatedLine(usage.units, total, to_cents(total), steps)


def marginal_price_cents(model: ChargeModel, used: Decimal, *, currency: str) -> Decimal:
    """What one more unit costs when `used` units are used, in minor units; below 0 counts as 0.

    The price of a unit only: no flat amounts, no fees per event, and of a package its share.
    """
    used = max(used, _ZERO)
    with localcontext(EXACT):
        match model:
            case Standard():
                return standard.marginal_price_cents(model, currency)
            case Graduated():
                return graduated.marginal_price_cents(model, used, currency)
            case Volume():
                return volume.marginal_price_cents(model, used, currency)
            case Package():
                return package.marginal_price_cents(model, used, currency)
            case Percentage():
                return percentage.marginal_price_cents(model, used, currency)
        assert_never(model)


def needs_transactions(model: ChargeModel) -> bool:
    """Whether `rate` has to be given the quantity of every single event, in order of time."""
    return isinstance(model, Percentage) and percentage.needs_transactions(model)


def _steps(model: ChargeModel, usage: Usage, currency: str) -> tuple[Step, ...]:
    match model:
        case Standard():
            return standard.steps(model, usage, currency)
        case Graduated():
            return graduated.steps(model, usage, currency)
        case Volume():
            return volume.steps(model, usage, currency)
        case Package():
            return package.steps(model, usage, currency)
        case Percentage():
            return percentage.steps(model, usage, currency)
    assert_never(model)
