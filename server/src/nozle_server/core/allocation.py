"""Splitting a whole into parts by weight, and settling exact parts, so that the parts always sum to the whole.

Where all weights are 0 there is nothing to split by, and the first part gets all: a total must not vanish,
and an even split would claim a proportion that nobody stated.
"""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from math import lcm

from nozle_server.core.rounding import EXACT, divide, to_cents


def allocate(total: int, weights: Sequence[Decimal]) -> tuple[int, ...]:
    """Split whole minor units by largest remainder: floor every share, hand the rest out one by one.

    Equal remainders are served from the left. A negative total is split as its mirror image. ValueError for
    no or negative weights.

    >>> allocate(100, [Decimal(1), Decimal(1), Decimal(1)])
    (34, 33, 33)
    """
    _require_weights(weights)
    if total < 0:
        return tuple(-part for part in allocate(-total, weights))
    scaled = _as_integers(weights)
    whole = sum(scaled)
    if whole == 0:
        return (total,) + (0,) * (len(weights) - 1)
    shares = [divmod(total * weight, whole) for weight in scaled]
    parts = [floor for floor, _ in shares]
    by_remainder = sorted(range(len(parts)), key=lambda i: -shares[i][1])
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    assert sum(parts) == total, "parts sum to the whole"
    return tuple(parts)


def allocate_exact(total: Decimal, weights: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Split an exact amount: quotients at 24 decimal places, and what they miss goes to the largest weight.

    The first of equally large weights takes it. ValueError for no or negative weights.
    """
    _require_weights(weights)
    with localcontext(EXACT):
        whole = sum(weights, Decimal(0))
        if whole == 0:
            return (total,) + (Decimal(0),) * (len(weights) - 1)
        parts = [divide(total * weight, whole) for weight in weights]
        largest = max(range(len(weights)), key=lambda i: weights[i])
        parts[largest] += total - sum(parts, Decimal(0))
        return tuple(parts)


def settle(amounts: Sequence[Decimal], total: int | None = None) -> tuple[int, ...]:
    """Whole minor units for exact amounts, so that they sum to `total`, by default the exact sum rounded once.

    Every part is its amount cut off or rounded away from zero, whoever was cut off the most going first, equals from
    the left; the parts of negated amounts are the negated parts. A `total` must lie within a unit of the exact sum.

    >>> settle([Decimal("0.5"), Decimal("0.5"), Decimal("2")])
    (1, 0, 2)
    """
    with localcontext(EXACT):
        if total is None:
            total = to_cents(sum(amounts, Decimal(0)))
        parts = [int(amount) for amount in amounts]
        missing = total - sum(parts)
        sign = 1 if missing > 0 else -1
        cut_off = [sign * (amount - part) for amount, part in zip(amounts, parts, strict=True)]
    by_cut_off = sorted((i for i, rest in enumerate(cut_off) if rest > 0), key=lambda i: -cut_off[i])
    for i in by_cut_off[: abs(missing)]:
        parts[i] += sign
    assert sum(parts) == total, "the parts of a sum lie less than a unit from it"
    return tuple(parts)


def _require_weights(weights: Sequence[Decimal]) -> None:
    if not weights:
        raise ValueError("there is nothing to split into")
    if any(weight < 0 for weight in weights):
        raise ValueError("a weight must not be negative")


def _as_integers(weights: Sequence[Decimal]) -> list[int]:
    """The weights over one common denominator, so that shares and remainders are whole numbers."""
    ratios = [weight.as_integer_ratio() for weight in weights]
    denominator = lcm(*(bottom for _, bottom in ratios))
    return [top * denominator // bottom for top, bottom in ratios]
