"""Use cases that change cost models. A cost model prices the events that come after it; what an event cost is
stored with the event and stays."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.fields import Amount
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id
from nozle_server.costs import store
from nozle_server.costs.model import CostModel, CostTier, CostType, ModelRate, TierMode
from nozle_server.infra.database import Tx

MAX_ENTRIES = 1_000


class CostTierDraft(msgspec.Struct, kw_only=True):
    """One tier: units up to `up_to` (null: without end)."""

    unit_amount_cents: Amount
    flat_amount_cents: Amount = Amount(0)
    up_to: Amount | None = None


class ModelRateDraft(msgspec.Struct, kw_only=True):
    """Cents per 1,000,000 tokens."""

    input: Amount
    output: Amount


class CostModelDraft(msgspec.Struct, kw_only=True):
    """Both dialects of `POST /cost-models` (contract 1.19), and `cost_models:` of a catalog file (`metric`)."""

    name: str
    metric_code: str | None = None
    metric: str | None = None
    cost_type: str | None = None
    cost_per_unit_cents: Amount | None = None
    amount_cents: Amount | None = None
    model: str | None = None
    model_rates: dict[str, ModelRateDraft] | None = None
    tier_mode: str | None = None
    tiers: list[CostTierDraft] | None = None


async def create_cost_model(tx: Tx, *, org_id: UUID, draft: CostModelDraft, now: datetime) -> CostModel:
    """A new cost model. The metric's code is not checked: costs may be known before the metric is."""
    cost_model = plan_cost_model(draft, org_id=org_id, now=now)
    await store.insert(tx, cost_model)
    return cost_model


async def delete_cost_model(tx: Tx, *, org_id: UUID, cost_model_id: UUID, now: datetime) -> None:
    """Stop a cost model; costs of past events stay. NotFound `cost_model_not_found`."""
    if not await store.delete(tx, org_id, cost_model_id, now):
        raise unknown_cost_model()


def unknown_cost_model() -> NotFound:
    return NotFound("cost model not found", code="cost_model_not_found")


def plan_cost_model(draft: CostModelDraft, *, org_id: UUID, now: datetime) -> CostModel:
    """The cost model that a draft describes; InvalidInput when it is not one of the three kinds."""
    try:
        cost_type = CostType(draft.cost_type or CostType.PER_UNIT)
    except ValueError:
        raise _invalid("cost_type", "must be one of " + ", ".join(CostType)) from None
    _refuse_other_kinds(draft, cost_type)
    amount: Decimal | None = None
    rates: dict[str, ModelRate] = {}
    tiers: tuple[CostTier, ...] = ()
    mode: TierMode | None = None
    match cost_type:
        case CostType.PER_UNIT:
            amount = _amount(_per_unit(draft), "cost_per_unit_cents")
        case CostType.PER_MODEL:
            rates = _rates(draft.model_rates or {})
        case CostType.TIERED:
            mode = _tier_mode(draft.tier_mode)
            tiers = _tiers(draft.tiers or ())
    return CostModel(
        org_id=org_id,
        id=new_id(),
        name=parse_id(draft.name, "name"),
        metric_code=parse_id(draft.metric_code or draft.metric, "metric_code"),
        cost_type=cost_type,
        model=parse_id(draft.model, "model")
        if draft.model is not None and cost_type is not CostType.PER_MODEL
        else None,
        amount_cents=amount,
        model_rates=rates,
        tier_mode=mode,
        tiers=tiers,
        created_at=now,
        updated_at=now,
    )


def _refuse_other_kinds(draft: CostModelDraft, cost_type: CostType) -> None:
    """What belongs to another kind is a mistake of the caller's, never ignored."""
    fields = {
        CostType.PER_UNIT: ("model_rates", "tiers", "tier_mode"),
        CostType.PER_MODEL: ("cost_per_unit_cents", "amount_cents", "model", "tiers", "tier_mode"),
        CostType.TIERED: ("cost_per_unit_cents", "amount_cents", "model_rates"),
    }[cost_type]
    for field in fields:
        if getattr(draft, field) is not None:
            raise _invalid(field, f"does not belong to a {cost_type} cost model")


def _per_unit(draft: CostModelDraft) -> Amount:
    one, other = draft.cost_per_unit_cents, draft.amount_cents
    if one is not None and other is not None and one != other:
        raise _invalid("cost_per_unit_cents", "and amount_cents say different things")
    amount = one if one is not None else other
    if amount is None:
        raise InvalidInput(
            "cost_per_unit_cents is required", details={"cost_per_unit_cents": ["value_is_mandatory"]}
        )
    return amount


def _rates(drafts: Mapping[str, ModelRateDraft]) -> dict[str, ModelRate]:
    if not drafts or len(drafts) > MAX_ENTRIES:
        raise _invalid("model_rates", f"needs 1 to {MAX_ENTRIES} models")
    return {
        parse_id(name, "model_rates"): ModelRate(
            _amount(rate.input, "model_rates"), _amount(rate.output, "model_rates")
        )
        for name, rate in drafts.items()
    }


def _tier_mode(text: str | None) -> TierMode:
    try:
        return TierMode((text or "SLAB").upper())
    except ValueError:
        raise _invalid("tier_mode", "must be SLAB or VOLUME") from None


def _tiers(drafts: Sequence[CostTierDraft]) -> tuple[CostTier, ...]:
    if not drafts or len(drafts) > MAX_ENTRIES:
        raise _invalid("tiers", f"needs 1 to {MAX_ENTRIES} tiers")
    tiers = tuple(
        CostTier(
            None if one.up_to is None else _amount(one.up_to, "tiers"),
            _amount(one.unit_amount_cents, "tiers"),
            _amount(one.flat_amount_cents, "tiers"),
        )
        for one in drafts
    )
    below = Decimal(0)
    for tier in tiers[:-1]:
        if tier.up_to is None or tier.up_to <= below:
            raise _invalid("tiers", "must rise, and only the last has no end")
        below = tier.up_to
    if tiers[-1].up_to is not None:
        raise _invalid("tiers", "must end with a tier without up_to")
    return tiers


def _amount(value: Decimal, field: str) -> Decimal:
    return parse_amount(Decimal(value), field, minimum=Decimal(0))


def _invalid(field: str, what: str) -> InvalidInput:
    return InvalidInput(f"{field} {what}", details={field: ["value_is_invalid"]})


def same_costs(one: CostModel, other: CostModel) -> bool:
    """Whether two cost models price alike (names, ids and instants aside)."""
    return _meaning(one) == _meaning(other)


def _meaning(cost_model: CostModel) -> tuple[Any, ...]:
    return (
        cost_model.metric_code,
        cost_model.cost_type,
        cost_model.model,
        cost_model.amount_cents,
        cost_model.model_rates,
        cost_model.tier_mode,
        cost_model.tiers,
    )
