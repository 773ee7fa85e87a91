"""The stage: the clock at the trace's first second, and forty customers, each on its plan."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from nozle_demo.client import Api, segment
from nozle_demo.clock import OrganizationClock, from_instant
from nozle_demo.customers import CUSTOMERS, Customer
from nozle_demo.errors import UsageError
from nozle_demo.trace import Trace

OTHER_DATA = "a fresh NOZLE_DATA_DIR is needed for this trace"


@dataclass(frozen=True)
class Period:
    """A customer's billing period, half-open."""

    start: datetime
    end: datetime


async def set_stage(api: Api, clock: OrganizationClock, trace: Trace) -> dict[str, Period]:
    """Make or find the customers; the billing period of each, by external id.

    Every call may be repeated, so an interrupted set-up is simply done again. Once the clock is past the
    first second it is known to be complete, and only the periods are read.
    """
    if clock.now is None or clock.now <= trace.first_second:
        await clock.move_to(trace.first_second)
        # One after the other: invoices are numbered alike in every run.
        for customer in CUSTOMERS:
            await _enrol(api, customer)
    elif await api.find(f"/core/api/v1/events/{trace.transaction_id(trace.requests[0])}") is None:
        # The first call is never denied, so had this trace been begun here, its event would be stored.
        raise UsageError(f"the organization's clock stands at {clock.now} already: {OTHER_DATA}")
    periods = dict(
        zip(_ids(), await asyncio.gather(*(_read_period(api, each) for each in CUSTOMERS)), strict=True)
    )
    for external_id, period in periods.items():
        if not (period.start <= trace.first_second and trace.last_second < period.end):
            raise UsageError(
                f"the trace does not lie within the billing period of {external_id} "
                f"({period.start} to {period.end}): {OTHER_DATA}"
            )
    return periods


def _ids() -> list[str]:
    return [customer.external_id for customer in CUSTOMERS]


async def _enrol(api: Api, customer: Customer) -> None:
    external_id = customer.external_id
    await api.post(
        "/api/v1/customers", {"external_id": external_id, "name": customer.name, "email": customer.email}
    )
    await api.post("/api/v1/subscribe", {"customer_id": external_id, "plan_code": customer.plan_code})


async def _read_period(api: Api, customer: Customer) -> Period:
    status = await api.get(f"/api/v1/billing/status?customer_id={segment(customer.external_id)}")
    if status["plan_code"] != customer.plan_code:
        raise UsageError(f"{customer.external_id} is on the plan {status['plan_code']}: {OTHER_DATA}")
    return Period(from_instant(status["current_period_start"]), from_instant(status["current_period_end"]))
