"""Credits are exact decimals from the request to the row and back (M14), and spent in a fixed order (M13)."""

from decimal import Decimal

import pytest

from world import World, audit

pytestmark = pytest.mark.database


@pytest.mark.parametrize(
    ("granted", "taken", "left"),
    [
        ("1000000000000000", "0.000000000001", "999999999999999.999999999999"),
        ("999999999999999999.999999999999", "999999999999999999.999999999999", "0"),
        ("0.000000000003", "0.000000000001", "0.000000000002"),
        ("9007199254740993", "1", "9007199254740992"),
        ("999999999999999999", "123456789012345678.123456789012", "876543210987654320.876543210988"),
    ],
)
async def test_amounts_are_exact(world: World, granted: str, taken: str, left: str) -> None:
    """M14, B10: 12 decimals, 10^15, beyond 2^53; numbers are written without an exponent."""
    await world.a_customer()
    await world.grant("acme", Decimal(granted))
    allowed, remaining = await world.deduct("acme", Decimal(taken))
    assert (allowed, remaining) == (True, Decimal(left))
    answer = await world.call("GET", "/api/v1/credits/acme/balance")
    assert f'"balance":{left},'.encode() in answer.body
    await audit(world)


@pytest.mark.parametrize(
    "credits",
    [
        b"0",
        b"-1",
        b"-0",
        b"true",
        b"null",
        b'""',
        b'"NaN"',
        b"NaN",
        b"Infinity",
        b"1e400",
        b"1e18",
        b'"1e3"',
        b"1" * 5000,
        b'"0.0000000000001"',
        b"[1]",
        b"{}",
        b'" 1"',
        '"١"'.encode(),
        b"0.0000000000001",
    ],
)
async def test_bad_amounts_are_400_and_take_nothing(world: World, credits: bytes) -> None:
    """B02: also what rounds to nothing at 12 decimals."""
    await world.a_customer()
    await world.grant("acme", 10)
    body = b'{"customer_id": "acme", "feature": "chat", "credits": ' + credits + b"}"
    answer = await world.call("POST", "/api/v1/check-and-deduct", body)
    assert answer.status == 400
    assert answer.code
    assert await world.balance("acme") == 10


async def test_grants_are_spent_by_priority_then_expiry_then_age(world: World) -> None:
    """M13, Decision 14: the order is the same every time, and the ledger tells which grant paid."""
    await world.turn("2026-01-01")
    await world.a_customer()
    wanted = [
        {"amount": 1, "priority": 60, "expires_at": "2026-02-01T00:00:00Z"},
        {"amount": 2},
        {"amount": 3, "expires_at": "2026-03-01T00:00:00Z"},
        {"amount": 4, "expires_at": "2026-02-01T00:00:00Z"},
        {"amount": 5, "priority": 0},
        {"amount": 6},
    ]
    for one in wanted:
        await world.grant("acme", **one)
    assert await world.deduct("acme", 20) == (True, 1)
    rows = await world.fetch(
        """select -l.amount as amount from ledger_allocations l join ledger_entries e on e.org_id = l.org_id
           and e.id = l.entry_id join credit_grants g on g.org_id = l.org_id and g.id = l.grant_id
           where e.org_id = $1 and e.type = 'deduct'
           order by g.priority, g.expires_at nulls last, g.created_at, g.id"""
    )
    assert [row["amount"] for row in rows] == [5, 4, 3, 2, 6]
    await audit(world)


async def test_expired_credits_are_never_spent(world: World) -> None:
    """M13: at the very instant of the expiry they are gone, and the ledger says so."""
    await world.turn("2026-01-01")
    await world.a_customer()
    await world.grant("acme", 5, expires_at="2026-01-02T00:00:00Z")
    await world.grant("acme", 1)
    await world.turn("2026-01-01T23:59:59.999999Z")
    assert await world.deduct("acme", 2) == (True, 4)
    await world.turn("2026-01-02")
    assert await world.deduct("acme", 2) == (False, 1)
    assert await world.transactions("acme") == [("grant", 5), ("grant", 1), ("deduct", 2), ("expire", 3)]
    past = await world.call(
        "POST", "/api/v1/credits/acme/grants", {"amount": 1, "expires_at": "2026-01-02T00:00:00Z"}
    )
    assert past.status == 400
    await audit(world)


async def test_a_denial_is_200_and_takes_nothing(world: World) -> None:
    await world.a_customer()
    assert await world.deduct("acme", 1) == (False, 0)
    await world.grant("acme", 3)
    assert await world.deduct("acme", 5) == (False, 3)
    unknown = await world.call(
        "POST", "/api/v1/check-and-deduct", {"customer_id": "nobody", "feature": "chat", "credits": 1}
    )
    assert (unknown.status, unknown.code) == (404, "customer_not_found")
    await audit(world)
