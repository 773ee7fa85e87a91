"""Group C of reliability.md: an answer of `can()` does not outlive what it was decided from, in whichever process."""

import asyncio
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from chaos.clients import Client, rfc3339
from chaos.harness import Installation, Merchant
from chaos.rights import Moods, look, shows
from chaos.scale import is_large, scaled
from chaos.views import OTHER_PROCESS_S, UNDER_LOAD, Book, Lags, until_all_know, watching

OTHERS_P99_S = 0.25


async def test_c01_a_change_is_known_at_once_where_it_was_made_and_soon_everywhere(
    client: Client, urls: list[str], rng: random.Random
) -> None:
    """Changes of plan, cancellations, features switched off, limits, overrides, costs, uses; each by way of any server, while
    all are asked without pause."""
    moods = Moods(client, rng)
    await moods.begin()
    book = Book(moods.truth, shows)
    await until_all_know(book, client, urls, look, within_s=OTHER_PROCESS_S * UNDER_LOAD)
    async with watching(book, client, urls, look):
        for _ in range(scaled(40, at_1000=1000)):
            url = rng.choice(urls)
            async with book.deed(at=url) as deed:
                await moods.change(url)
                deed.makes(*moods.truth)
            await asyncio.sleep(rng.choice([0, 0, 0.01, 0.05]))
        await asyncio.sleep(0.3)
    await until_all_know(book, client, urls, look, within_s=0.1)
    _check(book.lags(urls))


async def test_c05_a_denial_lives_no_longer_than_a_grant(
    client: Client, urls: list[str], rng: random.Random
) -> None:
    """A customer whom nobody knows, then one without a subscription, then one who has used up the limit, and gets more: all
    processes have said no, and all say yes as soon as they would have said no."""
    await Moods(client, rng).begin()
    grants, denials = Lags([], [], 0), Lags([], [], 0)
    for n in range(scaled(5, at_1000=250)):
        book = await _refuse_and_let_in(f"late-{n}", client, urls, rng)
        grants += book.lags(urls, of=lambda deed: deed.truth == ("allowed",))
        denials += book.lags(urls, of=lambda deed: deed.truth != ("allowed",))
    for lags in (grants, denials):
        _check(lags)


async def _refuse_and_let_in(customer: str, client: Client, urls: list[str], rng: random.Random) -> Book:
    event = {"customer_id": customer, "metric_code": "tokens", "transaction_id": customer}
    own = f"/core/api/v1/subscriptions/{customer}/entitlements"
    story: list[tuple[str, str, object, str]] = [
        ("POST", "/core/api/v1/customers", {"customer": {"external_id": customer}}, "no_subscription"),
        (
            *("POST", "/core/api/v1/subscriptions"),
            {
                "subscription": {
                    "external_customer_id": customer,
                    "external_id": customer,
                    "plan_code": "basic",
                }
            },
            "allowed",
        ),
        ("POST", "/api/v1/events", {**event, "properties": {"n": 100}}, "limit_exceeded"),
        ("PATCH", own, {"entitlements": {"chat": {"limit": 200}}}, "allowed"),
        ("DELETE", f"/core/api/v1/subscriptions/{customer}", None, "subscription_cancelled"),
    ]
    book = Book(("no_subscription",))
    target = f"/api/v1/can?customer_id={customer}&feature=chat"
    async with watching(book, client, urls, _verdict, target=target):
        for method, place, body, then in story:
            await asyncio.sleep(0.05)  # so that all of them have answered what is true by now
            async with book.deed(at=rng.choice(urls)) as deed:
                await client.must(method, place, body, at=deed.at)
                deed.makes(then)
        await asyncio.sleep(0.1)
    return book


async def test_a_turned_clock_is_known_as_a_change_is(
    installation: Installation, merchant: Merchant, client: Client, urls: list[str], rng: random.Random
) -> None:
    """Of an organization in test mode; where nothing falls due on the way, only the time is another."""
    await Moods(client, rng).begin()
    await client.post("/api/v1/test-clock", {"now": "2026-01-01T00:00:00Z"})
    lags = Lags([], [], 0)
    turns = scaled(5, at_1000=200)
    for n in range(turns):
        ends = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(hours=n)
        await client.a_customer(f"late-{n}")
        wanted = {"customer_id": f"late-{n}", "plan_code": "basic", "ending_at": rfc3339(ends)}
        await client.post("/api/v1/subscribe", wanted)
    async with installation.session() as session:
        put_off = "update due_items set due_at = due_at + $2::text::interval where org_id = $1"
        await session.execute(put_off, merchant.org_id, "10 years")
    for n in range(turns):
        book = Book(("allowed",))
        target = f"/api/v1/can?customer_id=late-{n}&feature=chat"
        async with watching(book, client, urls, _verdict, target=target):
            await asyncio.sleep(0.05)
            async with book.deed(at=rng.choice(urls)) as deed:
                to = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(hours=n)
                await client.post("/api/v1/test-clock", {"now": rfc3339(to)}, at=deed.at)
                deed.makes("subscription_expired")
            await asyncio.sleep(0.1)
        lags += book.lags(urls)
    async with installation.session() as session:
        await session.execute(put_off, merchant.org_id, "-10 years")
    _check(lags)


def _verdict(answer: Mapping[str, object]) -> object:
    return "allowed" if answer["allowed"] else answer["reason"]


def _check(lags: Lags) -> None:
    print(lags)
    assert not lags.own
    assert lags.max_s <= OTHER_PROCESS_S * (1 if is_large() else UNDER_LOAD)
    assert not is_large() or lags.p99_s <= OTHERS_P99_S
