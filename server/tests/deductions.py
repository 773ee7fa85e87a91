"""Deductions asked of a group commit directly, as a process of its own would."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from nozle_server.core import json
from nozle_server.credits.book import Book
from nozle_server.credits.group_commit import GroupCommit
from nozle_server.credits.group_request import Answer, Request
from nozle_server.credits.model import ZERO, Deduction, Refusal
from nozle_server.credits.spending import Spending, deduct
from nozle_server.infra.idempotency import Claim
from world import World


async def with_credits(world: World, amount: object = 100, *customers: str) -> None:
    """Customers who have so many credits each."""
    for customer in customers or ("acme",):
        await world.a_customer(customer)
        await world.grant(customer, amount)


async def take(group: GroupCommit, world: World, amount: object, **more: Any) -> dict[str, Any]:
    """Deduct, and what was answered."""
    answer = await group.submit(a_request(world, amount, **more))
    said: dict[str, Any] = json.loads(answer.body)
    return {**said, "replayed": answer.replayed}


def a_request(
    world: World,
    amount: object,
    *,
    customer: str = "acme",
    entity: str | None = None,
    key: str | None = None,
    decide: Callable[[Book | None, datetime], Any] | None = None,
    **more: Any,
) -> Request:
    spending = Spending(Decimal(str(amount)), more.get("feature", "chat"), entity)

    def decided(book: Book | None, now: datetime) -> Deduction:
        if book is None:
            return Deduction(False, ZERO, reason=Refusal.INSUFFICIENT_CREDITS)
        return deduct(book, spending, now)

    def encode(deduction: Deduction) -> Answer:
        said = {"allowed": deduction.allowed, "remaining": deduction.remaining, "reason": deduction.reason}
        return Answer(200, json.dumps(said))

    claim = None
    if key is not None:
        claim = Claim(world.org_id, "test", key, spending.amount.to_eng_string().encode(), ledger=True)
    return Request(
        org_id=world.org_id,
        customer=customer,
        decide=decide or decided,
        encode=encode,
        received_at=datetime.now(UTC),
        entity=entity,
        claim=claim,
        **{"feature": "chat", **more},
    )
