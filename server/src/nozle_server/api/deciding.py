"""From an endpoint to the group commit and back: what is decided together with others, outside the request's own
transaction."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from nozle_server.api.endpoint import Call, Reply
from nozle_server.api.idempotency import REPLAYED
from nozle_server.core import json
from nozle_server.core.text import parse_id
from nozle_server.credits.book import Book
from nozle_server.credits.group_request import Answer, Request
from nozle_server.credits.model import Refusal, RefusedBudget

T = TypeVar("T")


async def decide_together(
    call: Call,
    *,
    customer: str,
    decide: Callable[[Book | None, datetime], T],
    to_json: Callable[[T], object],
    feature: str | None = None,
    entity: str | None = None,
    credit_system: str | None = None,
    also: Callable[..., Any] | None = None,
    before: Callable[..., Any] | None = None,
) -> Reply:
    """Have `decide` decide over an account of a customer's, by the merchant's id, and answer what `to_json` makes of it.

    As `credits.group_request.Request`.
    """
    status = call.endpoint.status
    answer = await call.services.group_commit.submit(
        Request(
            org_id=call.org_id,
            customer=customer,
            decide=decide,
            encode=lambda decided: Answer(status, json.dumps(to_json(decided))),
            received_at=call.received_at,
            credit_system=credit_system,
            feature=feature,
            entity=entity,
            claim=call.claim,
            also=also,
            before=before,
        )
    )
    return Reply(raw=answer.body, status=answer.status, headers=REPLAYED if answer.replayed else {})


def parse_code(text: str | None) -> str | None:
    """The code of a credit system, as sent."""
    return None if text is None else parse_id(text, "credit_system")


def refusal_json(reason: Refusal | None, budget: RefusedBudget | None) -> dict[str, object]:
    """Why something was refused: a member `reason`, and which `budget` it was."""
    told: dict[str, object] = {"reason": reason}
    if budget is not None:
        told["budget"] = {
            "entity_id": budget.entity,
            "interval": budget.budget.interval,
            "limit": budget.budget.limit,
            "used": budget.used,
            "resets_at": budget.resets_at,
        }
    return told
