"""What a unit of usage costs the merchant."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID


class CostType(StrEnum):
    """An amount a unit; rates per million tokens by model; or tiers over a calendar month's usage."""

    PER_UNIT = "per_unit"
    PER_MODEL = "per_model"
    TIERED = "tiered"


class TierMode(StrEnum):
    """`SLAB`: each tier prices its own slice. `VOLUME`: the tier that the total falls in prices all of it."""

    SLAB = "SLAB"
    VOLUME = "VOLUME"


@dataclass(frozen=True, slots=True)
class ModelRate:
    """Cents per 1,000,000 tokens."""

    input: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class CostTier:
    """Units up to and including `up_to` (None: without end) cost `unit_amount_cents` each, and `flat_amount_cents`
    once the tier is reached."""

    up_to: Decimal | None
    unit_amount_cents: Decimal
    flat_amount_cents: Decimal


@dataclass(frozen=True, slots=True)
class CostModel:
    """One cost model. `model` restricts a per-unit one to the events of one AI model."""

    org_id: UUID
    id: UUID
    name: str
    metric_code: str
    cost_type: CostType
    model: str | None
    amount_cents: Decimal | None
    model_rates: dict[str, ModelRate]
    tier_mode: TierMode | None
    tiers: tuple[CostTier, ...]
    created_at: datetime
    updated_at: datetime
