"""Which grants pay for a deduction. The whole burn order in one place: priority, then earliest expiry, then oldest,
then id, so that any two servers draw the same grants in the same order."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.core.rounding import EXACT
from nozle_server.credits.model import Draw, Grant

_NEVER = datetime.max.replace(tzinfo=UTC)


def burn_order(grant: Grant) -> tuple[int, datetime, datetime, UUID]:
    """Sort key: the grant that is spent first comes first. A lower priority number is spent earlier."""
    return grant.priority, grant.expires_at or _NEVER, grant.created_at, grant.id


def plan_draws(grants: Iterable[Grant], amount: Decimal) -> tuple[Draw, ...] | None:
    """Choose which of the live `grants` pay for `amount` credits; None when together they cannot."""
    draws: list[Draw] = []
    owed = amount
    with localcontext(EXACT):
        for grant in sorted(grants, key=burn_order):
            taken = min(grant.remaining, owed)
            if taken > 0:
                draws.append(Draw(grant.id, taken))
                owed -= taken
            if not owed:
                break
    return None if owed else tuple(draws)


def available(grants: Iterable[Grant], now: datetime) -> Decimal:
    """What the grants that are live at `now` hold together."""
    with localcontext(EXACT):
        return sum((grant.remaining for grant in grants if grant.is_live(now)), Decimal(0))
