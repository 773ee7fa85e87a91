"""The last reading before the period ends, kept on disk: what it shows cannot be read afterwards."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from nozle_demo.client import Api, segment
from nozle_demo.clock import from_instant, to_instant
from nozle_demo.customers import CUSTOMERS, FEATURE
from nozle_demo.exact import Json, decimal
from nozle_demo.stage import Period

# How far beyond the end of the period the clock is moved.
AFTER_THE_END = timedelta(hours=1)


@dataclass(frozen=True)
class Reading:
    """A customer just before its period ended: usage that can() sees, and credits left."""

    period: Period
    used: Decimal
    balance: Decimal


@dataclass(frozen=True)
class Closing:
    """The readings by external id."""

    readings: dict[str, Reading]

    @property
    def bills_at(self) -> datetime:
        """When all periods are over and billed."""
        return max(reading.period.end for reading in self.readings.values()) + AFTER_THE_END

    @property
    def period(self) -> Period:
        """From the first start to the last end (all customers subscribed at one instant)."""
        periods = [reading.period for reading in self.readings.values()]
        return Period(min(each.start for each in periods), max(each.end for each in periods))

    def to_json(self) -> Json:
        return {
            external_id: {
                "period_start": to_instant(reading.period.start),
                "period_end": to_instant(reading.period.end),
                "used": reading.used,
                "balance": reading.balance,
            }
            for external_id, reading in self.readings.items()
        }

    @classmethod
    def from_json(cls, fields: Json) -> "Closing":
        return cls(
            {
                external_id: Reading(
                    Period(from_instant(item["period_start"]), from_instant(item["period_end"])),
                    decimal(item["used"]),
                    decimal(item["balance"]),
                )
                for external_id, item in fields.items()
            }
        )


async def read_closing(api: Api, periods: dict[str, Period]) -> Closing:
    """Ask usage and balance of every customer while the period still runs."""

    async def read(external_id: str) -> Reading:
        can = await api.get(f"/api/v1/can?customer_id={segment(external_id)}&feature={FEATURE}")
        credits = await api.get(f"/api/v1/credits/{segment(external_id)}/balance")
        return Reading(periods[external_id], decimal(can["used"]), decimal(credits["balance"]))

    ids = [customer.external_id for customer in CUSTOMERS]
    return Closing(dict(zip(ids, await asyncio.gather(*map(read, ids)), strict=True)))
