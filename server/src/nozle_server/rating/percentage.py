"""Percentage: a share of the units, which are an amount of money in major units, plus a fee for each event.

With an allowance (free events, a free amount) or a bound on the price of one event, the events are walked
one by one in order of time. Where both allowances are given, the one used up first ends both; an event that
uses up the free amount pays for what goes beyond it, and the fixed fee.

https://getlago.com/docs/guide/plans/charges/charge-models/percentage
"""

from collections.abc import Sequence
from decimal import Decimal

from nozle_server.catalog.charge_models import Percentage
from nozle_server.core.money import to_minor
from nozle_server.rating.lines import Step, Usage, flat, free, priced

_ZERO = Decimal(0)
_PERCENT = Decimal("0.01")


def needs_transactions(model: Percentage) -> bool:
    """Whether the price depends on the single events, and not only on their sum and number."""
    return _has_allowance(model) or _bounds_events(model)


def steps(model: Percentage, usage: Usage, currency: str) -> tuple[Step, ...]:
    """ValueError when the price depends on the single events and their number is not `events_count`."""
    if not usage.units:
        return ()  # as Lago: no units, no fixed fees, however many events made the 0
    if not needs_transactions(model):
        return _percentage_and_fee(model, usage.units, usage.events_count, currency)
    if len(usage.transactions) != usage.events_count:
        raise ValueError("this percentage charge is priced event by event and needs every transaction")
    paid = _paid_parts(model, usage.transactions)
    paid_units = sum(paid, _ZERO)
    walk = _percentage_and_fee(model, paid_units, len(paid), currency)
    if _has_allowance(model):
        walk = (free(sum(usage.transactions, _ZERO) - paid_units), *walk)
    return walk + _bounding(model, paid, currency)


def marginal_price_cents(model: Percentage, used: Decimal, currency: str) -> Decimal:
    """The price of one more unit; 0 while unit `used` + 1 is within the free amount.

    Free events and fixed fees are not in it: they belong to an event, whatever its size.
    """
    free_amount = model.free_units_per_total_aggregation
    if free_amount is not None and used + 1 <= free_amount:
        return _ZERO
    return _unit_price_cents(model, currency)


def _percentage_and_fee(
    model: Percentage, units: Decimal, events_count: int, currency: str
) -> tuple[Step, ...]:
    percentage = priced("percentage", units, _unit_price_cents(model, currency))
    if not model.fixed_amount:
        return (percentage,)
    return (percentage, priced("fixed_fee", Decimal(events_count), to_minor(model.fixed_amount, currency)))


def _unit_price_cents(model: Percentage, currency: str) -> Decimal:
    """A unit is one major unit of money, so 1.2 percent of it are 1.2 cents of a dollar."""
    return to_minor(model.rate * _PERCENT, currency)


def _has_allowance(model: Percentage) -> bool:
    # A free amount of 0 is no allowance, and does not end the free events either.
    return bool(model.free_units_per_events or model.free_units_per_total_aggregation)


def _bounds_events(model: Percentage) -> bool:
    return model.per_transaction_min_amount is not None or model.per_transaction_max_amount is not None


def _paid_parts(model: Percentage, transactions: Sequence[Decimal]) -> list[Decimal]:
    """For each event that is not free, the part of it that is paid for."""
    events_left = model.free_units_per_events
    amount_left = model.free_units_per_total_aggregation or None
    is_free = _has_allowance(model)
    paid = []
    for value in transactions:
        part = value
        if is_free and events_left == 0:
            is_free = False
        elif is_free and amount_left is not None and value >= amount_left:
            is_free = False
            part = value - amount_left
        elif is_free:
            events_left = None if events_left is None else events_left - 1
            amount_left = None if amount_left is None else amount_left - value
            continue
        paid.append(part)
    return paid


def _bounding(model: Percentage, paid: Sequence[Decimal], currency: str) -> tuple[Step, ...]:
    """What the minimum adds to the paid events, and the maximum takes from them."""
    low, high = model.per_transaction_min_amount, model.per_transaction_max_amount
    prices = [value * model.rate * _PERCENT + model.fixed_amount for value in paid]
    raised = _ZERO if low is None else sum((low - price for price in prices if price < low), _ZERO)
    lowered = _ZERO if high is None else sum((high - price for price in prices if price > high), _ZERO)
    bounds = (("transaction_minimum", raised), ("transaction_maximum", lowered))
    return tuple(flat(kind, to_minor(amount, currency)) for kind, amount in bounds if amount)
