"""Group C of reliability.md: what the passing of time alone takes or gives, every process knows."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from chaos.auditor import audit
from chaos.clients import Client, Lost, rfc3339
from chaos.harness import Installation, Launcher, Merchant, installed
from chaos.processes import FEW
from chaos.scale import scaled
from chaos.shifted import ShiftedClock
from chaos.views import POLL_S
from nozle_server.core.clock import Clock, SystemClock
from nozle_server.identity.model import Mode

DENIED_WITHIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class View:
    """What the server `at` said about a customer, and when by the server's clock it was asked for and received."""

    at: str
    customer: str
    allowed: bool
    asked: datetime
    received: datetime


class Watch:
    """Asks about customers and remembers each answer."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self.views: list[View] = []

    async def look(self, url: str, customer: str) -> None:
        asked = self._clock.now()
        try:
            answer = await self._client.send(
                "GET", f"/api/v1/can?customer_id={customer}&feature=chat", at=url
            )
        except Lost:
            return
        if answer.status != 503:
            assert answer.status == 200, answer.body
            self.views.append(View(url, customer, answer.json["allowed"], asked, self._clock.now()))

    @asynccontextmanager
    async def over(self, urls: Sequence[str], customers: Sequence[str]) -> AsyncIterator[None]:
        """Ask all servers about all customers, again and again."""
        stop = asyncio.Event()

        async def ask(url: str) -> None:
            while not stop.is_set():
                for customer in customers:
                    await self.look(url, customer)
                    await asyncio.sleep(POLL_S)

        asking = [asyncio.create_task(ask(url)) for url in urls]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*asking)

    def check(self, customer: str, turns: datetime, *, to: bool, urls: Sequence[str]) -> timedelta:
        """Up to an instant the other answer was right, from it on only `to`. How late the latest wrong one was."""
        mine = [view for view in self.views if view.customer == customer]
        early = [view for view in mine if view.received < turns and view.allowed is to]
        assert not early, f"too early: {early[0]}, and it turns at {turns}"
        late = [view.asked - turns for view in mine if view.asked >= turns and view.allowed is not to]
        assert {view.at for view in mine if view.asked >= turns} == set(urls), "not everybody was asked then"
        return max(late, default=timedelta(0))


async def test_c02_what_expires_by_time_is_denied_in_every_process_though_nothing_happens(
    installation: Installation, merchant: Merchant, client: Client, urls: list[str], rng: random.Random
) -> None:
    """The job that would end it is kept from running. Of half of the customers no process has ever heard before."""
    await client.post("/core/api/v1/features", {"feature": {"code": "chat", "name": "Chat"}})
    plan = {"code": "trial", "name": "Trial", "interval": "monthly", "amount_cents": 0}
    await client.post("/core/api/v1/plans", {"plan": plan})
    await client.post("/core/api/v1/plans/trial/entitlements", {"entitlements": {"chat": {}}})
    customers = [f"acme-{n}" for n in range(scaled(10, at_1000=400))]
    begins = datetime.now(UTC) + timedelta(seconds=2 + 0.06 * len(customers))
    ends = {one: begins + timedelta(seconds=rng.uniform(0, 2 + 0.05 * len(customers))) for one in customers}
    for customer in customers:
        await client.a_customer(customer)
        wanted = {"customer_id": customer, "plan_code": "trial", "ending_at": rfc3339(ends[customer])}
        await client.post("/api/v1/subscribe", wanted)
    await _put_off(installation, merchant, "1 hour")
    assert datetime.now(UTC) < begins, "the machine is too slow for this test"
    known, unheard_of = customers[::2], customers[1::2]
    watch = Watch(client, SystemClock())

    async def ask_afterwards(customer: str) -> None:
        await asyncio.sleep((ends[customer] - datetime.now(UTC)).total_seconds())
        await asyncio.gather(*(watch.look(url, customer) for url in urls))

    asking = [asyncio.create_task(ask_afterwards(customer)) for customer in unheard_of]
    async with watch.over(urls, known):
        await asyncio.gather(*asking)
        last = max(ends.values()) + DENIED_WITHIN * 1.2
        await asyncio.sleep((last - datetime.now(UTC)).total_seconds())
    await _put_off(installation, merchant, "-1 hour")
    late = [watch.check(one, ends[one], to=False, urls=urls) for one in customers]
    print(f"{len(watch.views)} answers about {len(customers)} customers, at most {max(late)} late")
    assert max(late) <= DENIED_WITHIN


async def _put_off(installation: Installation, merchant: Merchant, by: str) -> None:
    async with installation.session() as session:
        await session.execute(
            "update due_items set due_at = due_at + $2::text::interval where org_id = $1",
            *(merchant.org_id, by),
        )


# Another time than ours.

ZONES = ("Pacific/Kiritimati", "Asia/Kolkata", "UTC", "America/St_Johns", "Pacific/Pago_Pago")
"""From the first to see a new month to the last."""
NEXT_MONTH = date(2027, 4, 1)


@dataclass
class Elsewhen:
    installation: Installation
    clock: ShiftedClock


@pytest.fixture
async def elsewhen(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Elsewhen]:
    """Three servers near the end of a month, by a clock that we set."""
    clock = ShiftedClock(tmp_path_factory.mktemp("elsewhen") / "clock")
    clock.set(_first_of_month("UTC") - timedelta(hours=36))
    async with installed(launcher, servers=3, CHAOS_CLOCK=str(clock.file), **FEW) as installation:
        yield Elsewhen(installation, clock)
        await audit(installation)


async def test_c06_a_cancelled_subscription_ends_and_a_new_period_begins_with_the_month_of_the_customer(
    elsewhen: Elsewhen, rng: random.Random
) -> None:
    """Cancelled at the period's end: allowed until the month is over where the customer lives, then no more. Who has used up
    the month's limit is let in at the same instant."""
    installation, clock = elsewhen.installation, elsewhen.clock
    merchant = await installation.open_merchant(Mode.LIVE)
    urls = installation.urls
    zones = [
        ZONES[n]
        for n in sorted(rng.sample(range(len(ZONES)), min(len(ZONES), scaled(2, at_1000=len(ZONES)))))
    ]
    async with Client(lambda: installation.urls, merchant.secret, rng) as client:
        await _open_shop(client)
        watch = Watch(client, clock)
        for zone in zones:
            leaves, stays = _people_of(zone)
            for customer in (leaves, stays):
                await _subscribe(client, customer, zone)
            await client.must("DELETE", f"/api/v1/subscriptions/{leaves}", None)
            event = {"transaction_id": stays, "customer_id": stays, "metric_code": "tokens"}
            await client.post("/api/v1/events", {**event, "properties": {"n": 100}})
        for zone in zones:
            (leaves, stays), turns = _people_of(zone), _first_of_month(zone)
            clock.set(turns - timedelta(seconds=2))
            async with watch.over(urls, [leaves, stays]):
                await asyncio.sleep(2 + 2 * DENIED_WITHIN.total_seconds())
            late = [
                watch.check(leaves, turns, to=False, urls=urls),
                watch.check(stays, turns, to=True, urls=urls),
            ]
            print(f"{zone}: {late[0]} late to deny, {late[1]} late to allow")
            assert max(late) <= DENIED_WITHIN


def _people_of(zone: str) -> tuple[str, str]:
    city = zone.rpartition("/")[2]
    return f"leaves-{city}", f"stays-{city}"


def _first_of_month(zone: str) -> datetime:
    return datetime.combine(NEXT_MONTH, datetime.min.time(), ZoneInfo(zone)).astimezone(UTC)


async def _open_shop(client: Client) -> None:
    metric = {"code": "tokens", "name": "Tokens", "aggregation_type": "sum_agg", "field_name": "n"}
    await client.post("/core/api/v1/billable_metrics", {"billable_metric": metric})
    feature = {"code": "chat", "name": "Chat", "billable_metric_code": "tokens"}
    await client.post("/core/api/v1/features", {"feature": feature})
    plan = {"code": "basic", "name": "Basic", "interval": "monthly", "amount_cents": 0}
    await client.post("/core/api/v1/plans", {"plan": plan})
    wanted = {"entitlements": {"chat": {"limit": 100}}}
    await client.post("/core/api/v1/plans/basic/entitlements", wanted)


async def _subscribe(client: Client, customer: str, zone: str) -> None:
    person = {"external_id": customer, "timezone": zone}
    await client.post("/core/api/v1/customers", {"customer": person})
    wanted = {"external_customer_id": customer, "external_id": customer, "plan_code": "basic"}
    await client.post("/core/api/v1/subscriptions", {"subscription": {**wanted, "billing_time": "calendar"}})
