"""Price usage by a charge model: the one entry to this folder.

Amounts are exact decimals in minor units until the line is settled by one rounding, half away from zero.
Usage below zero (more removed than added) is priced as no usage at all, and no line is below zero, as in
Lago: money goes back to a customer by a credit note, never by a negative price.
"""

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import assert_never

from nozle_server.catalog.charge_models import (
    ChargeModel,
    Dynamic,
    Graduated,
    GraduatedPercentage,
    Package,
    Percentage,
    Standard,
    Volume,
)
from nozle_server.core.rounding import EXACT, to_cents
from nozle_server.rating import (
    dynamic,
    graduated,
    graduated_percentage,
    package,
    percentage,
    standard,
    volume,
)
from nozle_server.rating.lines import RatedLine, Step, Usage, flat

__all__ = [
    "RatedLine",
    "Step",
    "Usage",
    "can_be_prorated",
    "marginal_price_cents",
    "needs_amounts",
    "needs_parts",
    "needs_transactions",
    "price_of_event",
    "rate",
]

_ZERO = Decimal(0)


def rate(model: ChargeModel, usage: Usage, *, currency: str) -> RatedLine:
    """Price a period's usage in the currency's minor units (cents, yen, fils).

    ValueError when `needs_transactions(model)` and `usage.transactions` does not have every event, or when the usage is
    prorated and the model cannot be; InvalidInput for an unknown currency.
    """
    if usage.prorated_units is not None and not can_be_prorated(model):
        raise ValueError("this charge model has no prorated price")
    if usage.units < 0:
        return RatedLine(_ZERO, _ZERO, 0, ())
    with localcontext(EXACT):
        steps = _steps(model, usage, currency)
        total = sum((step.amount_cents for step in steps), _ZERO)
        if total < 0:
            # Refunds, where a maximum bounds the sales but not the refunds; or more taken away, prorated, than was
            # there.
            steps, total = (*steps, flat("floor_at_zero", -total)), _ZERO
    return RatedLine(usage.units, total, to_cents(total), steps)


def price_of_event(model: ChargeModel, before: Usage, after: Usage, *, currency: str) -> RatedLine:
    """What one event costs at once, in a charge that is paid in advance: the price of all usage with it less the price
    without it, so that the events of a period together pay what the period costs.

    `before` and `after` are the highest usage so far, without and with the event: an event that takes units away, or
    counts a value that is there already, leaves the units equal, and units that come back are not paid twice. Nothing
    used before is nothing paid before, so that the first event pays the flat amount of the first tier.
    As Lago: https://getlago.com/docs/guide/plans/charges/arrears-vs-advance
    """
    units = max(_ZERO, EXACT.subtract(after.units, max(before.units, _ZERO)))
    if after == before or after.units <= 0:
        return RatedLine(_ZERO, _ZERO, 0, ())
    with_it = rate(model, after, currency=currency)
    without = rate(model, before, currency=currency) if before.units > 0 else RatedLine(_ZERO, _ZERO, 0, ())
    with localcontext(EXACT):
        total = max(_ZERO, with_it.exact_amount_cents - without.exact_amount_cents)
        taken_off = tuple(
            replace(
                step,
                kind="before_event",
                units=-step.units,
                flat_cents=-step.flat_cents,
                amount_cents=-step.amount_cents,
                label=step.label or step.kind,
            )
            for step in without.steps
        )
        steps = with_it.steps + taken_off
        if short := total - sum((step.amount_cents for step in steps), _ZERO):
            steps = (*steps, flat("floor_at_zero", short))
    return RatedLine(units, total, to_cents(total), steps)


def marginal_price_cents(model: ChargeModel, used: Decimal, *, currency: str) -> Decimal:
    """What one more unit costs when `used` units are used, in minor units; below 0 counts as 0.

    The price of a unit only: no flat amounts, no fees per event, and of a package its share. 0 for a dynamic charge,
    whose next price nobody knows.
    """
    used = max(used, _ZERO)
    with localcontext(EXACT):
        match model:
            case Standard():
                return standard.marginal_price_cents(model, currency)
            case Graduated():
                return graduated.marginal_price_cents(model, used, currency)
            case GraduatedPercentage():
                return graduated_percentage.marginal_price_cents(model, used, currency)
            case Volume():
                return volume.marginal_price_cents(model, used, currency)
            case Package():
                return package.marginal_price_cents(model, used, currency)
            case Percentage():
                return percentage.marginal_price_cents(model, used, currency)
            case Dynamic():
                return _ZERO
        assert_never(model)


def needs_transactions(model: ChargeModel) -> bool:
    """Whether `rate` has to be given the quantity of every single event, in order of time."""
    return isinstance(model, Percentage) and percentage.needs_transactions(model)


def needs_parts(model: ChargeModel) -> bool:
    """Whether the price of a prorated quantity needs every single event and its prorated part."""
    return isinstance(model, Graduated)


def needs_amounts(model: ChargeModel) -> bool:
    """Whether `rate` has to be given the sum of the events' own prices."""
    return isinstance(model, Dynamic)


def can_be_prorated(model: ChargeModel) -> bool:
    """Whether a quantity can be priced by the part of the period it was there."""
    return isinstance(model, Standard | Graduated | Volume)


def _steps(model: ChargeModel, usage: Usage, currency: str) -> tuple[Step, ...]:
    match model:
        case Standard():
            return standard.steps(model, usage, currency)
        case Graduated():
            return graduated.steps(model, usage, currency)
        case GraduatedPercentage():
            return graduated_percentage.steps(model, usage, currency)
        case Volume():
            return volume.steps(model, usage, currency)
        case Package():
            return package.steps(model, usage, currency)
        case Percentage():
            return percentage.steps(model, usage, currency)
        case Dynamic():
            return dynamic.steps(usage)
    assert_never(model)
