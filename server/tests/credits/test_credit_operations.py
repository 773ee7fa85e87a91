"""What customers have and did in product credits, as it is shown (contract 4.3)."""

import asyncio
import base64
import itertools
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credits.product import a_rate, a_system, balance, give, operations, track, transfer
from nozle_server.api.operation_cursor import from_operation_cursor, to_operation_cursor
from nozle_server.core.errors import InvalidInput
from nozle_server.credits import book_store, giving, holding
from nozle_server.credits.book import Book
from nozle_server.credits.model import Draw, EntryType, GrantSource
from nozle_server.credits.spending import Spending
from nozle_server.credits.usage_model import Position
from nozle_server.credits.usage_queries import take_page
from nozle_server.credits.usage_store import Head
from world import JsonObject, World, audit

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def acme(world: World) -> World:
    """A token costs a credit; the customer bought 100."""
    await world.turn("2026-01-01")
    await world.a_metric()
    await a_system(world)
    await a_rate(world, credits="1", per="1")
    await world.a_customer()
    await world.an_entity("agent")
    await give(world, 100)
    return world


async def with_book(world: World, do: Any, system: str = "ai") -> Any:
    """Have something done to the account that no endpoint of this capability does."""

    async def work(tx: Any) -> Any:
        [row] = await tx.fetch(
            "select id from credit_accounts where org_id = $1 and credit_system = $2", world.org_id, system
        )
        [book] = await book_store.lock(tx, world.org_id, [row["id"]])
        done = do(book)
        await book_store.save(tx, world.services.seams.change_bus, [book])
        return done

    return await world.database.run(work)


def add_up(rows: Iterable[JsonObject]) -> Decimal:
    """What operations did together, after each is what its allocations say."""
    total = Decimal(0)
    for one in rows:
        deltas = [Decimal(part["delta"]) for part in one["source_allocations"]]
        for part, delta in zip(one["source_allocations"], deltas, strict=True):
            assert Decimal(part["after"]) - Decimal(part["before"]) == delta
            assert Decimal(part["after"]) >= 0
            assert Decimal(part["before"]) >= 0
        assert abs(sum(deltas)) == (Decimal(one["credit_amount"]) if one["status"] != "denied" else 0)
        total += sum(deltas)
    return total


@pytest.mark.database
async def test_every_kind_of_operation_is_shown(acme: World) -> None:
    """And each says what it did to which grant; together they are the balance. Holds are none."""
    await give(acme, 10, GrantSource.PLAN, expires="2026-01-05", priority=0)
    tracked = (await track(acme, properties={"n": 4})).json
    deducted = {"customer_id": "acme", "feature": "chat", "credits": 1, "credit_system": "ai"}
    await acme.post("/api/v1/check-and-deduct", deducted)
    await acme.turn("2026-01-05")
    await track(acme, properties={"n": 1000})
    await transfer(acme, "20")

    def several(book: Book) -> None:
        [grant, *_] = [one for one in book.grants(None) if one.source is GrantSource.TOP_UP]
        giving.void(book, grant.id, Decimal(3), NOW)
        giving.correct(book, Decimal(-2), NOW, description="Too much")
        spent = book.take(EntryType.DEDUCT, [Draw(grant.id, Decimal(7))], NOW, feature="render")
        giving.refund(book, spent, [Draw(grant.id, Decimal(7))], NOW, "Failed")
        held = holding.hold(
            book, holding.Holding(Spending(Decimal(9)), datetime(2027, 1, 1, tzinfo=UTC)), NOW
        )
        assert held.hold is not None
        holding.settle(book, holding.Settling(held.hold.id, Decimal(5)), NOW)

    await with_book(acme, several)
    shown = await operations(acme)
    assert [(one["type"], one["status"], one["credit_amount"]) for one in shown] == [
        ("consume", "succeeded", "5"),
        ("refund", "succeeded", "7"),
        ("consume", "reversed", "7"),
        ("adjustment", "succeeded", "2"),
        ("revoke", "succeeded", "3"),
        ("transfer", "succeeded", "20"),
        ("transfer", "succeeded", "20"),
        ("consume", "denied", "1000"),
        ("expire", "succeeded", "5"),
        ("consume", "succeeded", "1"),
        ("consume", "succeeded", "4"),
        ("grant", "succeeded", "10"),
        ("grant", "succeeded", "100"),
    ]
    of_all = Decimal((await balance(acme, entity="agent"))["entity_available"])
    of_all += Decimal((await balance(acme))["available"])
    assert add_up(shown) == of_all == 90
    use = shown[10]
    assert {name: use[name] for name in ("id", "feature_code", "billable_metric_code", "metric_amount")} == {
        "id": tracked["operation_id"],
        "feature_code": "tokens",
        "billable_metric_code": "tokens",
        "metric_amount": "4",
    }
    assert (use["rate_metric_amount"], use["rate_credit_amount"], use["credit_system_name"]) == (
        "1",
        "1",
        "AI",
    )
    plain = shown[9]
    assert (plain["feature_code"], plain["billable_metric_code"], plain["metric_amount"]) == (
        "chat",
        None,
        None,
    )
    assert shown[3]["description"] == "Too much"
    assert {one["entity_id"] for one in shown if one["type"] == "transfer"} == {"agent"}
    assert [one["type"] for one in await operations(acme, "agent")] == ["transfer", "transfer"]
    await audit(acme)


@pytest.mark.database
@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_pages_hold_each_operation_once(acme: World, limit: int) -> None:
    """Over several systems and denials, in any size; also when more are made between two pages."""
    await a_system(acme, "gpu")
    await give(acme, 50, system="gpu")
    for n in range(1, 6):
        body = {"customer_id": "acme", "feature": "x", "credits": n}
        await acme.post("/api/v1/check-and-deduct", {**body, "credit_system": "gpu"})
        await track(acme, properties={"n": n}, entity_id="agent")
        await track(acme, properties={"n": 1000 + n})
    whole = await operations(acme)
    assert len(whole) == 17
    assert await operations(acme, limit=limit) == whole
    assert await operations(acme, "agent", limit=limit) == [
        one for one in whole if one["entity_id"] == "agent" and one["type"] == "consume"
    ]
    for system in ("ai", "gpu", "credits"):
        shown = await operations(acme, limit=limit, credit_system_code=system)
        assert shown == [one for one in whole if one["credit_system"] == system]

    first = await acme.get("/api/v1/customers/acme/credit-operations", limit=limit)
    await a_system(acme, "new")
    await give(acme, 1, system="new")
    await track(acme, properties={"n": 7})
    await track(acme, properties={"n": 7000})
    rest, cursor = [], first["next_cursor"]
    while cursor:
        page = await acme.get("/api/v1/customers/acme/credit-operations", limit=limit, cursor=cursor)
        rest += page["operations"]
        cursor = page["next_cursor"]
    assert [one["id"] for one in (*first["operations"], *rest)] == [one["id"] for one in whole]


@pytest.mark.database
async def test_pages_while_others_spend_leave_nothing_out(acme: World) -> None:
    done = False

    async def spend() -> None:
        while not done:
            await track(acme, properties={"n": Decimal("0.01")})

    spenders = [asyncio.create_task(spend()) for _ in range(3)]
    try:
        for _ in range(5):
            rows = await operations(acme, limit=2)
            ids = [one["id"] for one in rows]
            assert len(set(ids)) == len(ids)
            before = [Decimal(one["source_allocations"][0]["after"]) for one in rows]
            assert before == sorted(before)
            assert before[-1] == 100
            assert all(later - sooner == Decimal("0.01") for sooner, later in itertools.pairwise(before))
    finally:
        done = True
        await asyncio.gather(*spenders)


@pytest.mark.database
async def test_balances_show_every_source(acme: World) -> None:
    await a_system(acme, "gpu")
    await acme.a_plan(
        credit_grants=[{"credit_system": "ai", "amount": "30", "interval": "monthly"}], code="incl"
    )
    await acme.subscribe("acme", "incl")
    await give(acme, 5, GrantSource.PROMOTION, expires="2026-01-03", priority=0)
    await transfer(acme, "25")
    shown = await balance(acme)
    assert (shown["customer_id"], shown["credit_system"], shown["unit_name"]) == ("acme", "ai", "credits")
    assert (shown["available"], shown["system_status"], shown["as_of"]) == (
        "110",
        "active",
        "2026-01-01T00:00:00Z",
    )
    kinds = [(one["type"], one["initial"], one["remaining"], one["priority"]) for one in shown["sources"]]
    assert kinds == [
        ("manual_grant", "5", "5", 0),
        ("subscription_grant", "30", "30", 50),
        ("top_up", "100", "75", 50),
    ]
    [_, plan, bought] = shown["sources"]
    assert plan["expires_at"] == "2026-02-01T00:00:00Z"
    [subscription] = await acme.fetch("select id from subscriptions where org_id = $1")
    assert plan["subscription_id"] == f"sub_{subscription['id'].hex}"
    assert (bought["transferable"], bought["returnable"], bought["scope"], bought["available"]) == (
        True,
        False,
        "customer",
        True,
    )
    mine = (await balance(acme, entity="agent"))["sources"]
    [allocated] = [one for one in mine if one["scope"] == "entity"]
    assert (allocated["type"], allocated["entity_id"], allocated["parent_source_id"]) == (
        "allocated_top_up",
        "agent",
        bought["id"],
    )
    assert (allocated["transferable"], allocated["returnable"]) == (False, True)
    # What is over is not there, whether anyone has written it off or not.
    await acme.turn("2026-01-03")
    assert [one["type"] for one in (await balance(acme))["sources"]] == ["subscription_grant", "top_up"]
    listed = await acme.get("/api/v1/customers/acme/credit-systems")
    assert [one["credit_system"] for one in listed["balances"]] == ["ai"]
    assert listed["balances"][0] == await balance(acme)
    of_entity = await acme.get("/engine/api/v1/customers/acme/entities/agent/credit-systems")
    assert of_entity["balances"] == [await balance(acme, entity="agent")]
    assert (of_entity["entity_id"], of_entity["entity_status"]) == ("agent", "active")
    empty = await balance(acme, "gpu")
    assert (empty["available"], empty["sources"]) == ("0", [])
    nothing = await balance(acme, "gpu", "agent")
    assert (nothing["effective_available"], nothing["consumed"], nothing["sources"]) == ("0", "0", [])


@pytest.mark.database
async def test_what_is_not_there_is_404(acme: World) -> None:
    for path, code in {
        "nobody/credit-systems": "customer_not_found",
        "nobody/credit-systems/ai/balance": "customer_not_found",
        "nobody/credit-operations": "customer_not_found",
        "acme/credit-systems/none/balance": "credit_system_not_found",
        "acme/credit-operations?credit_system_code=none": "credit_system_not_found",
        "acme/entities/nobody/credit-systems": "entity_not_found",
        "acme/entities/nobody/credit-systems/ai/balance": "entity_not_found",
        "acme/entities/nobody/credit-operations": "entity_not_found",
        "nobody/entities/agent/credit-operations": "customer_not_found",
    }.items():
        answer = await acme.call("GET", f"/api/v1/customers/{path}")
        assert (answer.status, answer.code) == (404, code), path
        assert (await acme.call("GET", f"/api/v1/customers/{path}", key=acme.publishable)).status == 403
    for query in ("limit=0", "limit=101", "cursor=x", "cursor=" + "A" * 5000, f"cursor={_raw('v1::1,-1')}"):
        answer = await acme.call("GET", f"/api/v1/customers/acme/credit-operations?{query}")
        assert answer.status == 400, query


def _raw(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text", ["", "v1:", "v1::x y", "v2::1", "v1::1,", "v1:nothex:1", "v1::99999999999999", "v1:::", "\x00"]
)
def test_a_cursor_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        from_operation_cursor(_raw(text))


positions = st.builds(
    Position,
    st.uuids(),
    st.lists(st.integers(0, 2**63 - 1), max_size=20).map(tuple),
)


@given(positions)
def test_a_cursor_comes_back_as_it_was(position: Position) -> None:
    cursor = to_operation_cursor(position)
    assert from_operation_cursor(cursor) == position
    assert len(cursor) <= 512


@given(st.lists(st.lists(st.integers(0, 99), max_size=8), max_size=4), st.integers(1, 9))
def test_pages_take_lists_in_their_own_order_whatever_the_clocks_say(
    lists: list[list[int]], limit: int
) -> None:
    """Each list is taken from its front, nothing twice, nothing left out."""
    places = itertools.count()
    whole = [[Head(UUID(int=one), next(places)) for one in row] for row in lists]
    streams = whole
    taken: list[Head] = []
    while any(streams):
        page, rest = take_page(streams, limit)
        assert len(page) == min(limit, sum(map(len, streams)))
        for before, after in zip(streams, rest, strict=True):
            gone = before[: len(before) - len(after)]
            assert before[len(gone) :] == after
            assert [one for one in page if one in gone] == gone
        taken += page
        streams = [list(one) for one in rest]
    assert sorted(taken, key=id) == sorted((one for row in whole for one in row), key=id)
