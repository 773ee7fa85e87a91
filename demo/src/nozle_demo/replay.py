"""The replay: every row of the trace as the calls that an application would make, second by second.

Before the calls of a trace second the organization's clock moves to it. Customers call side by side, the
calls of one customer in their order. A call asks can(); denied, it is dropped. On pro its credits are asked
for next, under an Idempotency-Key made from the row. Then the event is sent, under a transaction id made
from trace and row.

Going on after an interruption. Rows in the journal are done. Of the others, those up to the second that the
server's clock shows may have been sent (no call is sent before the clock is there), so their events are
asked for first; what is stored is journalled from the stored event, without can() and without a deduct.
Rows of later seconds cannot have been sent and are simply played. A deduct whose event was not reached is
repeated under its key and answers as before. So even a lost journal costs only time: a denial is found
again, because a free customer's usage never falls within the period.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime

from nozle_demo import exact
from nozle_demo.client import Answer, Api, segment
from nozle_demo.clock import OrganizationClock, to_instant
from nozle_demo.customers import CUSTOMERS, FEATURE, METRIC, PRO, Customer, assign
from nozle_demo.exact import Json
from nozle_demo.journal import CREDITS, FOUND_STORED, Journal, Outcome
from nozle_demo.progress import Progress
from nozle_demo.trace import Request, Trace

_CAN = {
    customer.external_id: f"/api/v1/can?customer_id={segment(customer.external_id)}&feature={FEATURE}"
    for customer in CUSTOMERS
}


@dataclass(frozen=True)
class Speed:
    """What this run did: rows played, HTTP calls made, wall-clock and own CPU seconds."""

    requests: int
    calls: int
    wall_s: float
    cpu_s: float

    def to_json(self) -> Json:
        """In whole milliseconds and microseconds, so that no float is written."""
        return {
            "requests": self.requests,
            "http_calls": self.calls,
            "wall_ms": round(self.wall_s * 1_000),
            "client_cpu_us_per_call": round(self.cpu_s * 1_000_000 / max(self.calls, 1)),
        }


class Replay:
    """Plays the rows of `trace` that `journal` does not hold yet."""

    def __init__(self, api: Api, clock: OrganizationClock, trace: Trace, journal: Journal) -> None:
        self._api = api
        self._clock = clock
        self._trace = trace
        self._journal = journal

    async def play(self, sent_until: datetime | None, progress: Progress) -> Speed:
        """`sent_until`: what the clock showed when this run began; rows up to it may have been sent."""
        done = len(self._journal.outcomes)
        calls, wall_s, cpu_s = self._api.calls, time.perf_counter(), time.process_time()
        progress.start(total=len(self._trace.requests), done=done)
        try:
            for second, requests in self._trace.seconds():
                rows = [request for request in requests if request.row not in self._journal.outcomes]
                if rows:
                    await self._clock.move_to(second)
                    try:
                        await self._play_second(
                            rows, ask_first=sent_until is not None and second <= sent_until
                        )
                    finally:
                        self._journal.flush()
                    progress.advance(len(rows))
        finally:
            progress.stop()
        return Speed(
            len(self._journal.outcomes) - done,
            self._api.calls - calls,
            time.perf_counter() - wall_s,
            time.process_time() - cpu_s,
        )

    async def _play_second(self, requests: list[Request], *, ask_first: bool) -> None:
        chains: dict[str, list[tuple[Request, Customer, str]]] = {}
        for request in requests:
            customer, model = assign(request.row)
            chains.setdefault(customer.external_id, []).append((request, customer, model))
        if len(chains) == 1:
            await self._play_chain(*chains.values(), ask_first=ask_first)
            return
        # All chains come to their end before an error is raised, so that what was answered is journalled.
        tasks = (self._play_chain(chain, ask_first=ask_first) for chain in chains.values())
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _play_chain(self, chain: list[tuple[Request, Customer, str]], *, ask_first: bool) -> None:
        """The calls of one customer within one second, one after the other."""
        for request, customer, model in chain:
            outcome = await self._find_stored(request) if ask_first else None
            self._journal.add(outcome or await self._play_call(request, customer, model))

    async def _find_stored(self, request: Request) -> Outcome | None:
        found = await self._api.find(f"/core/api/v1/events/{self._trace.transaction_id(request)}")
        if found is None:
            return None
        event: Json = found["event"]
        paid = event["properties"].get("paid_by") == CREDITS
        return Outcome(request.row, True, FOUND_STORED, paid, str(event.get("status", "stored")))

    async def _play_call(self, request: Request, customer: Customer, model: str) -> Outcome:
        can: Json = await self._api.get(_CAN[customer.external_id])
        if can["allowed"] is not True:
            return Outcome(request.row, False, str(can["reason"]))
        transaction_id = self._trace.transaction_id(request)
        paid = False
        if customer.plan_code == PRO and request.tokens:
            deduction = await self._api.send(
                "/api/v1/check-and-deduct",
                f'{{"customer_id":"{customer.external_id}","feature":"{FEATURE}",'
                f'"credits":{credits_text(request.tokens)}}}'.encode(),
                idempotency_key=f"deduct-{transaction_id}",
            )
            paid = deduction.body["allowed"] is True
        answer = await self._send_event(request, customer, model, transaction_id, paid=paid)
        return Outcome(
            request.row, True, str(can["reason"]), paid, str(answer.body["event"].get("status", "stored"))
        )

    async def _send_event(
        self, request: Request, customer: Customer, model: str, transaction_id: str, *, paid: bool
    ) -> Answer:
        paid_by = f',"paid_by":"{CREDITS}"' if paid else ""
        body = (
            f'{{"transaction_id":"{transaction_id}","customer_id":"{customer.external_id}",'
            f'"metric_code":"{METRIC}","timestamp":"{to_instant(request.occurred_at)}",'
            f'"properties":{{"model":"{model}","input_tokens":{request.input_tokens},'
            f'"output_tokens":{request.output_tokens}{paid_by}}}}}'
        )
        return await self._api.send("/api/v1/events", body.encode())


def credits_text(tokens: int) -> str:
    """Tokens as credits, 1 to 1,000, as an exact JSON number.

    >>> credits_text(1418), credits_text(90)
    ('1.418', '0.09')
    """
    return exact.plain_number(tokens, places=3)
