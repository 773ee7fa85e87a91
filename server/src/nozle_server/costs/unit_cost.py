"""What one event costs the merchant: which cost model applies, and its arithmetic. Amounts are exact cents."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.core.rounding import EXACT, divide
from nozle_server.costs.model import CostModel, CostTier, CostType, TierMode

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class CostFacts:
    """What of an event its cost depends on."""

    quantity: Decimal
    model: str | None
    input_tokens: Decimal
    output_tokens: Decimal


def choose(models: Iterable[CostModel], facts: CostFacts) -> CostModel | None:
    """The cost model for an event: one that names its AI model before a general one, the newest among equals."""
    best: CostModel | None = None
    for one in models:
        if not _applies(one, facts.model):
            continue
        if best is None or _rank(one) > _rank(best):
            best = one
    return best


def _applies(cost_model: CostModel, model: str | None) -> bool:
    if cost_model.cost_type is CostType.PER_MODEL:
        return model is not None and model in cost_model.model_rates
    return cost_model.model is None or cost_model.model == model


def _rank(cost_model: CostModel) -> tuple[bool, UUID]:
    # Ids sort by real creation; an organization's own clock may have been turned back in between.
    names_the_model = cost_model.cost_type is CostType.PER_MODEL or cost_model.model is not None
    return names_the_model, cost_model.id


def cost_cents(cost_model: CostModel, facts: CostFacts, used_before: Decimal = Decimal(0)) -> Decimal:
    """What an event costs. `used_before` is the month's quantity before it, which only tiers look at."""
    with localcontext(EXACT):
        match cost_model.cost_type:
            case CostType.PER_UNIT:
                assert cost_model.amount_cents is not None
                return facts.quantity * cost_model.amount_cents
            case CostType.PER_MODEL:
                assert facts.model is not None
                rate = cost_model.model_rates[facts.model]
                return divide(facts.input_tokens * rate.input + facts.output_tokens * rate.output, _MILLION)
            case CostType.TIERED:
                mode = cost_model.tier_mode or TierMode.SLAB
                after = tiered_total_cents(cost_model.tiers, mode, used_before + facts.quantity)
                return after - tiered_total_cents(cost_model.tiers, mode, used_before)


def tiered_total_cents(tiers: tuple[CostTier, ...], mode: TierMode, quantity: Decimal) -> Decimal:
    """What a month's `quantity` costs in all; nothing when there is none."""
    if quantity <= 0:
        return Decimal(0)
    total, start = Decimal(0), Decimal(0)
    with localcontext(EXACT):
        for tier in tiers:
            ends_here = tier.up_to is None or quantity <= tier.up_to
            end = quantity if ends_here or tier.up_to is None else tier.up_to
            if mode is TierMode.SLAB:
                total += (end - start) * tier.unit_amount_cents + tier.flat_amount_cents
            elif ends_here:
                return quantity * tier.unit_amount_cents + tier.flat_amount_cents
            if ends_here:
                return total
            start = end
    raise AssertionError("the last tier has no end")


def marginal_cents(tiers: tuple[CostTier, ...], used: Decimal) -> Decimal:
    """The unit price of the tier that the unit after `used` falls in."""
    return next(tier.unit_amount_cents for tier in tiers if tier.up_to is None or used < tier.up_to)
