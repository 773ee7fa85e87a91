"""What grants of a plan's credits are known by: which subscription granted, for how long a period, and since when.

`plan:<subscription>:<interval>:<start>`, or `plan:<subscription>:lifetime`, with `:<entity>` where it is an entity's: the same
however often a grant is asked for, so that it is given once. The first releases left out the interval, which was the plan's.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.periods import Interval
from nozle_server.core.rounding import EXACT

LIFETIME = "lifetime"


@dataclass(frozen=True, slots=True)
class Granted:
    """What a plan granted before: under which reference, how much, and to which entity (None: to the customer)."""

    reference: str
    amount: Decimal
    entity_id: UUID | None = None


def prefix_of(subscription_id: UUID) -> str:
    """What the references of all grants of a subscription begin with."""
    return f"plan:{subscription_id}:"


def reference_of(
    subscription_id: UUID, interval: Interval | None, start: datetime, entity_id: UUID | None = None
) -> str:
    """The name of what a subscription grants for the period of an interval that starts then; None: for ever."""
    period = LIFETIME if interval is None else f"{interval}:{start.isoformat()}"
    return prefix_of(subscription_id) + period + (f":{entity_id}" if entity_id else "")


def rolled_over(reference: str) -> str:
    """The name of what is carried over from a grant."""
    return f"rollover:{reference}"


def is_of(reference: str, interval: Interval | None) -> bool:
    """Whether a reference is that of a grant for such a period."""
    kind = _kind(reference)
    return kind == (interval or LIFETIME) or (kind is None and interval is not None)


def granted_already(
    found: Collection[Granted], interval: Interval | None, granted_too: Collection[Interval | None]
) -> Decimal:
    """How much of what the plans before granted counts towards a grant for such a period.

    All for the same interval; and what was for an interval in which the plan grants nothing (`granted_too` are those in
    which it does), so that a change from a monthly to a yearly plan does not grant the same twice. What was granted for
    ever is of its own.
    """
    total = Decimal(0)
    for one in found:
        kind = _kind(one.reference)
        elsewhere = any(other != interval and kind == (other or LIFETIME) for other in granted_too)
        for_ever = kind == LIFETIME
        if for_ever == (interval is None) and not elsewhere:
            total = EXACT.add(total, one.amount)
    return total


def _kind(reference: str) -> str | None:
    """The interval in a reference, or `lifetime`; None where it is not said."""
    kind = reference.split(":")[2]
    return kind if kind == LIFETIME or kind in set(Interval) else None
