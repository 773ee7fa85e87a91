"""Which grants pay for a deduction. The whole burn order in one place: priority, then earliest expiry, then oldest,
then id, so that any two servers draw the same grants in the same order."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Protocol
from uuid import UUID

from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import Draw, Grant
from nozle_server.entities.model import PoolPolicy

_NEVER = datetime.max.replace(tzinfo=UTC)

Pool = UUID | None
"""Whose grants: an entity's, or (None) the customer's."""


def burn_order(grant: Grant) -> tuple[int, datetime, datetime, UUID]:
    """Sort key: the grant that is spent first comes first. A lower priority number is spent earlier."""
    return grant.priority, grant.expires_at or _NEVER, grant.created_at, grant.id


def pools_of(entity: UUID, above: Iterable[UUID], policy: PoolPolicy) -> tuple[Pool, ...]:
    """Whose grants an entity draws on, the first first: its own, then its parents', then the customer's."""
    own: tuple[Pool, ...] = (entity, *above)
    match policy:
        case PoolPolicy.ENTITY_ONLY:
            return own
        case PoolPolicy.CUSTOMER_ONLY:
            return (None,)
        case PoolPolicy.ENTITY_THEN_CUSTOMER:
            return (*own, None)


def plan_draws(grants: Iterable[Grant], amount: Decimal) -> tuple[Draw, ...] | None:
    """Choose which of the live `grants` pay for `amount` credits; None when together they cannot."""
    in_order = sorted(grants, key=burn_order)
    draws, owed = draw_up_to(in_order, amount)
    return None if owed else draws


class Spendable(Protocol):
    """A grant, or what is left of one."""

    @property
    def id(self) -> UUID: ...

    @property
    def remaining(self) -> Decimal: ...


def draw_up_to(grants: Iterable[Spendable], amount: Decimal) -> tuple[tuple[Draw, ...], Decimal]:
    """Take up to `amount` credits from `grants` in the order given: the draws, and what they do not cover."""
    draws: list[Draw] = []
    owed = amount
    for grant in grants:
        if not owed:
            break
        taken = min(grant.remaining, owed)
        if taken > 0:
            draws.append(Draw(grant.id, taken))
            owed = EXACT.subtract(owed, taken)
    return tuple(draws), owed


def available(grants: Iterable[Grant], now: datetime) -> Decimal:
    """What the grants that are live at `now` hold together."""
    with localcontext(EXACT):
        return sum((grant.remaining for grant in grants if grant.is_live(now)), Decimal(0))
