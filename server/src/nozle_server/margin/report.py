"""Reports from revenue and cost rows: pure sums, exact, each with the same five money figures."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from enum import StrEnum

from nozle_server.core.errors import InvalidInput
from nozle_server.core.rounding import EXACT, divide
from nozle_server.margin.model import CostRow, Figures, RevenueRow

MAX_BUCKETS = 5_000


class Granularity(StrEnum):
    """How long a bucket of a trend is; weeks start on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def group(
    revenue: Iterable[RevenueRow],
    costs: Iterable[CostRow],
    revenue_key: Callable[[RevenueRow], Hashable],
    cost_key: Callable[[CostRow], Hashable],
) -> dict[Hashable, Figures]:
    """Sums by a key; rows whose key is None are left out."""
    groups: dict[Hashable, Figures] = {}
    with localcontext(EXACT):
        for earned in revenue:
            key = revenue_key(earned)
            if key is not None:
                groups.setdefault(key, Figures()).add_revenue(earned)
        for spent in costs:
            key = cost_key(spent)
            if key is not None:
                groups.setdefault(key, Figures()).add_cost(spent)
    return groups


def money(figures: Figures) -> dict[str, object]:
    """The figures every row of every report has. Percentages are None when nothing was earned."""
    with localcontext(EXACT):
        revenue, margin = figures.revenue, figures.margin
        return {
            "revenue_cents": revenue,
            "usage_revenue_cents": figures.usage_revenue,
            "subscription_revenue_cents": figures.subscription_revenue,
            "cost_cents": figures.cost,
            "margin_cents": margin,
            "margin_percent": divide(margin * 100, revenue) if revenue else None,
            "margin": divide(margin, revenue) if revenue else None,
            "events_count": figures.events_count,
        }


def by_revenue(rows: Iterable[dict[str, object]], *, key: str) -> list[dict[str, object]]:
    """Largest revenue first; equals by `key`, so that an answer is the same every time."""

    def place(row: dict[str, object]) -> tuple[Decimal, str]:
        revenue = row["revenue_cents"]
        assert isinstance(revenue, Decimal)
        return -revenue, str(row[key])

    return sorted(rows, key=place)


def bucket_start(at: datetime, granularity: Granularity) -> datetime:
    """Start, in UTC, of the bucket an instant falls in."""
    match granularity:
        case Granularity.HOUR:
            return at.replace(minute=0, second=0, microsecond=0)
        case Granularity.DAY:
            return _midnight(at)
        case Granularity.WEEK:
            return _midnight(at) - timedelta(days=at.weekday())
        case Granularity.MONTH:
            return _midnight(at).replace(day=1)


def buckets(start: datetime, end: datetime, granularity: Granularity) -> Sequence[datetime]:
    """The starts of all buckets that touch [start, end), empty ones too; InvalidInput when there are too many."""
    starts: list[datetime] = []
    at = bucket_start(start, granularity)
    while at < end:
        starts.append(at)
        if len(starts) > MAX_BUCKETS:
            raise InvalidInput(
                f"the range has more than {MAX_BUCKETS} buckets",
                code="range_too_long",
                details={"from": ["too_long"]},
            )
        at = _next(at, granularity)
    return starts


def _next(at: datetime, granularity: Granularity) -> datetime:
    match granularity:
        case Granularity.HOUR:
            return at + timedelta(hours=1)
        case Granularity.DAY:
            return at + timedelta(days=1)
        case Granularity.WEEK:
            return at + timedelta(weeks=1)
        case Granularity.MONTH:
            return (at + timedelta(days=32)).replace(day=1)


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
