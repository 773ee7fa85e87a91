"""An identity: a sentence with two sides, added up item by item.

Where a sentence is about each customer it is checked for each, so two wrongs that cancel out in the sum
still make it false, and the items where it fails are named.
"""

from dataclasses import dataclass
from decimal import Decimal

from nozle_demo.exact import Json, plain

Part = tuple[str, Decimal]
# A number, or rows of numbers.
Value = Decimal | int | list[tuple[Decimal | int, ...]]
_FAULTS_NAMED = 5


@dataclass(frozen=True)
class Identity:
    """A checked sentence: the parts of both sides, and the items for which it is false."""

    number: str
    sentence: str
    left: tuple[Part, ...]
    right: tuple[Part, ...]
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return total(self.left) == total(self.right) and not self.faults

    def to_json(self) -> Json:
        return {
            "number": self.number,
            "sentence": self.sentence,
            "holds": self.holds,
            "left": {"total": total(self.left), "parts": dict(self.left)},
            "right": {"total": total(self.right), "parts": dict(self.right)},
            "faults": list(self.faults),
        }


class Comparison:
    """Collects an identity item by item; `left` and `right` name the parts of its sides."""

    def __init__(self, number: str, sentence: str, *, left: tuple[str, ...], right: tuple[str, ...]) -> None:
        self._number, self._sentence = number, sentence
        self._left = dict.fromkeys(left, Decimal(0))
        self._right = dict.fromkeys(right, Decimal(0))
        self._faults: list[str] = []

    def add(self, item: str, left: tuple[Decimal | int, ...], right: tuple[Decimal | int, ...]) -> None:
        """An item of the sum: the amounts of its parts, in the order in which the parts were named."""
        for parts, amounts in ((self._left, left), (self._right, right)):
            for name, amount in zip(parts, amounts, strict=True):
                parts[name] += amount
        self.also(item, sum(left, Decimal(0)), sum(right, Decimal(0)))

    def also(self, item: str, left: Value, right: Value) -> None:
        """Something that must be equal too, outside of the sum."""
        if left != right:
            self._faults.append(f"{item}: {_show(left)} instead of {_show(right)}")

    def done(self) -> Identity:
        faults = self._faults[:_FAULTS_NAMED]
        if len(self._faults) > _FAULTS_NAMED:
            faults.append(f"and {len(self._faults) - _FAULTS_NAMED} more")
        return Identity(
            self._number, self._sentence, tuple(self._left.items()), tuple(self._right.items()), tuple(faults)
        )


def total(parts: tuple[Part, ...]) -> Decimal:
    return sum((amount for _, amount in parts), Decimal(0))


def _show(value: Value) -> str:
    if isinstance(value, list):
        return "; ".join(" / ".join(map(plain, row)) for row in value) or "none"
    return plain(value)
