"""From drafts of what a plan grants to the grants of its version. Pure functions of values."""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from msgspec import UNSET, UnsetType

from nozle_server.catalog.credit_model import (
    DEFAULT_PRIORITY,
    Cadence,
    GrantScope,
    PlanGrant,
    Rollover,
)
from nozle_server.catalog.drafts import CreditGrantDraft, RolloverDraft
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id

MAX_CREDIT_GRANTS = 50
MAX_PRIORITY = 1000

_ZERO = Decimal(0)
Choice = TypeVar("Choice", bound=StrEnum)


def build_credit_grants(
    drafts: Sequence[CreditGrantDraft] | UnsetType | None, before: Sequence[PlanGrant]
) -> tuple[PlanGrant, ...]:
    """The grants that a list describes; those before when nothing is said."""
    if drafts is UNSET or drafts is None:
        return tuple(before)
    if len(drafts) > MAX_CREDIT_GRANTS:
        raise InvalidInput(
            f"a plan has at most {MAX_CREDIT_GRANTS} credit_grants", details={"credit_grants": ["too_many"]}
        )
    return tuple(_credit_grant(draft) for draft in drafts)


def change_rollover(
    draft: RolloverDraft | UnsetType | None, before: Rollover | None, credits: Decimal
) -> Rollover | None:
    """How `credits` roll over; a plan without them has nothing that could."""
    if draft is UNSET:
        return before if credits else None
    if draft is not None and not credits:
        raise InvalidInput(
            "credits_rollover is about credits, and the plan has none",
            details={"credits_rollover": ["value_is_invalid"]},
        )
    return _rollover(draft, "credits_rollover")


def check_credit_grants(version: PlanVersion) -> None:
    """InvalidInput when a version grants twice for the same time: `credits` included, and each month and each period are
    the same in a monthly plan."""
    kinds = [
        (one.credit_system, one.scope, one.interval(version.interval)) for one in version.all_credit_grants
    ]
    if len(set(kinds)) != len(kinds):
        raise InvalidInput(
            "a plan grants of one credit system once for the same time: `credits` is of the default system each period",
            details={"credit_grants": ["value_is_duplicated"]},
        )


def _credit_grant(draft: CreditGrantDraft) -> PlanGrant:
    cadence = _choice(Cadence, draft.cadence, Cadence.PERIOD, "cadence")
    if cadence is Cadence.LIFETIME and draft.rollover is not None:
        raise InvalidInput(
            "what never expires does not roll over", details={"rollover": ["value_is_invalid"]}
        )
    priority = DEFAULT_PRIORITY if draft.priority is None else draft.priority
    if not 0 <= priority <= MAX_PRIORITY:
        raise InvalidInput(
            f"priority must lie between 0 and {MAX_PRIORITY}", details={"priority": ["value_is_out_of_range"]}
        )
    return PlanGrant(
        credit_system=parse_id(draft.credit_system, "credit_system"),
        amount=parse_amount(Decimal(draft.amount), "amount", minimum=_ZERO, exclusive=True),
        cadence=cadence,
        scope=_choice(GrantScope, draft.scope, GrantScope.CUSTOMER, "scope"),
        priority=priority,
        rollover=_rollover(draft.rollover, "rollover"),
    )


def _rollover(draft: RolloverDraft | None, field: str) -> Rollover | None:
    if draft is None:
        return None
    if draft.limit is None:
        return Rollover(None)
    return Rollover(parse_amount(Decimal(draft.limit), field, minimum=_ZERO, exclusive=True))


def _choice(kind: type[Choice], value: str | None, otherwise: Choice, field: str) -> Choice:
    try:
        return otherwise if value is None else kind(value)
    except ValueError:
        raise InvalidInput(
            f"{field} must be one of " + ", ".join(kind), details={field: ["value_is_invalid"]}
        ) from None
