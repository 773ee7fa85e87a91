"""Figures, each beside its yardstick: as a table for people, or as one JSON object a line."""

import json
import sys
from dataclasses import dataclass

from harness.measurement import Measurement

_HEADER = (
    f"{'connections':>11} {'value':>10} {'p50 ms':>9} {'p99 ms':>9} {'p99.9 ms':>9}"
    f"   {'yardstick':<26} {'value':>10} {'p50 ms':>9} {'p99 ms':>9} {'p99.9 ms':>9} {'ratio':>7} {'N':>9}"
)


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What a figure is held against; without a measurement, `skipped` says why."""

    name: str
    measurement: Measurement | None = None
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing. `each` is how many units one request carries."""

    name: str
    unit: str
    connections: int
    measurement: Measurement
    yardstick: Yardstick
    each: int = 1

    @property
    def value(self) -> float:
        return self.measurement.per_second * self.each

    @property
    def yardstick_value(self) -> float | None:
        measured = self.yardstick.measurement
        return measured.per_second * self.each if measured else None

    @property
    def ratio(self) -> float | None:
        """Value over the yardstick's value: 1 is as fast as the yardstick."""
        return self.value / self.yardstick_value if self.yardstick_value else None

    def to_json(self) -> dict[str, object]:
        product, yardstick = self.measurement, self.yardstick.measurement
        shown: dict[str, object] = {
            "name": self.name,
            "value": round(self.value, 1),
            "unit": self.unit,
            "yardstick": self.yardstick.name,
            "ratio": None if self.ratio is None else round(self.ratio, 4),
            "n": product.n * self.each,
            "connections": self.connections,
            "p50_ms": _rounded(product.p50_ms),
            "p99_ms": _rounded(product.p99_ms),
            "p999_ms": _rounded(product.p999_ms),
            "refused": product.refused,
        }
        if yardstick is None:
            return {**shown, "skipped": self.yardstick.skipped}
        return {
            **shown,
            "yardstick_value": round(yardstick.per_second * self.each, 1),
            "yardstick_n": yardstick.n * self.each,
            "yardstick_p50_ms": _rounded(yardstick.p50_ms),
            "yardstick_p99_ms": _rounded(yardstick.p99_ms),
            "yardstick_p999_ms": _rounded(yardstick.p999_ms),
        }

    def to_row(self) -> str:
        product, yardstick = self.measurement, self.yardstick.measurement
        row = f"{self.connections:>11} {self.value:>10,.0f} {_times(product)}"
        row += f"   {self.yardstick.name:<26}"
        if yardstick is None or self.ratio is None:
            row += f" skipped: {self.yardstick.skipped}"
        else:
            row += f" {self.yardstick_value:>10,.0f} {_times(yardstick)} {self.ratio:>7.3f}"
            row += f" {product.n * self.each:>9,}"
        if product.refused:
            row += f"   {product.refused:,} REFUSED"
        return row


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)


def _times(measured: Measurement) -> str:
    return " ".join(_ms(one) for one in (measured.p50_ms, measured.p99_ms, measured.p999_ms))


def _ms(milliseconds: float | None) -> str:
    return f"{'-':>9}" if milliseconds is None else f"{milliseconds:>9.2f}"


@dataclass(frozen=True, slots=True)
class Reading:
    """Something that was looked at while it ran, and not a speed; the yardstick is an earlier look, or one at another."""

    name: str
    value: float
    unit: str
    yardstick: str
    yardstick_value: float
    n: int

    @property
    def ratio(self) -> float:
        return self.value / self.yardstick_value

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "yardstick": self.yardstick,
            "ratio": round(self.ratio, 4),
            "n": self.n,
            "yardstick_value": round(self.yardstick_value, 3),
        }

    def to_row(self) -> str:
        return (
            f"{self.name}: {self.value:,.2f} {self.unit}, {self.yardstick} {self.yardstick_value:,.2f} {self.unit},"
            f" ratio {self.ratio:.3f} (N = {self.n:,})"
        )


@dataclass(frozen=True, slots=True)
class Check:
    """A statement about what the load left behind, and how many of `n` things contradict it."""

    name: str
    says: str
    n: int
    violations: int


class Report:
    """Prints as it goes. `violations` tells whether everything was exact."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.violations = 0

    def say(self, text: str) -> None:
        """Something for people; beside the JSON it goes to standard error."""
        print(text, file=sys.stderr if self._as_json else sys.stdout, flush=True)

    def begin(self, title: str) -> None:
        """A section of figures of one kind."""
        self.say(f"\n{title}")
        if not self._as_json:
            print(_HEADER, flush=True)

    def add(self, figure: Figure | Reading) -> None:
        print(json.dumps(figure.to_json()) if self._as_json else figure.to_row(), flush=True)

    def check(self, check: Check) -> None:
        self.violations += check.violations
        if self._as_json:
            shown = {
                "name": check.name,
                "value": check.violations,
                "unit": "violations",
                "yardstick": check.says,
                "ratio": None,
                "n": check.n,
            }
            print(json.dumps(shown), flush=True)
        else:
            verdict = f"{check.violations:,} VIOLATIONS" if check.violations else "exact"
            print(f"{verdict}: {check.says} (N = {check.n:,})", flush=True)
