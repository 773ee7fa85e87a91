"""What a period's usage will come to when it goes on as it began: units by days, priced by the charge's own model. Pure.

As Lago: https://getlago.com/docs/guide/events/retrieve-usage ("Retrieve projected usage")
"""

from dataclasses import dataclass
from decimal import Decimal, localcontext

from nozle_server.catalog.charge_models import ChargeModel
from nozle_server.core.rounding import EXACT, divide, round_half_away, to_cents
from nozle_server.rating.lines import Usage
from nozle_server.rating.rate import needs_amounts, needs_transactions, rate

UNIT_PLACES = 2


@dataclass(frozen=True, slots=True)
class Projection:
    """Units and settled minor units at the end of the period."""

    units: Decimal
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a period is over, in local days, today included: 1 <= `days` <= `whole_days`."""

    days: int
    whole_days: int

    def scale(self, value: Decimal) -> Decimal:
        with localcontext(EXACT):
            return divide(value * self.whole_days, Decimal(self.days))


def project(
    model: ChargeModel,
    *,
    units: Decimal,
    events_count: int,
    exact_amount_cents: Decimal,
    currency: str,
    progress: Progress,
    carried_over: bool,
) -> Projection:
    """A line's usage at the end of the period. What is `carried_over` (a recurring metric) is there already and stays.

    Units are projected to two decimals. Where a price depends on the single events, the amount grows as the days do.
    """
    if carried_over or progress.days >= progress.whole_days:
        return Projection(units, to_cents(exact_amount_cents))
    projected = round_half_away(progress.scale(units), UNIT_PLACES)
    if needs_transactions(model) or needs_amounts(model):
        return Projection(projected, to_cents(progress.scale(exact_amount_cents)))
    events = int(round_half_away(progress.scale(Decimal(events_count))))
    return Projection(projected, rate(model, Usage(projected, events), currency=currency).amount_cents)
