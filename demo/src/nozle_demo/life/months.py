"""The months of the life: dates are told as (month, day) counted from the month it begins in."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Months:
    """`first` is midnight UTC on the first of the month that the life begins in."""

    first: datetime

    def at(self, month: int, day: int, hour: int = 0) -> datetime:
        """An instant in the `month`th month from the first, which is 0."""
        year, index = divmod(self.first.month - 1 + month, 12)
        return datetime(self.first.year + year, index + 1, day, hour, tzinfo=UTC)

    def days(self, month: int) -> int:
        """Days of a month."""
        return (self.at(month + 1, 1) - self.at(month, 1)).days

    @property
    def tag(self) -> str:
        """Tells lives of one organization apart."""
        return f"{self.first:%Y-%m}"


def next_month(after: datetime) -> Months:
    """The months from the first one that begins after an instant."""
    return Months(Months(after.replace(day=1, hour=0, minute=0, second=0, microsecond=0)).at(1, 1))
