"""Credits: check and deduct."""

from datetime import datetime
from decimal import Decimal

import msgspec

from nozle_server.api.deciding import decide_together, parse_code, refusal_json
from nozle_server.api.endpoint import SEED, Amount, Call, Endpoint, Example, Mount, Scope
from nozle_server.api.shapes import BOOLEAN, NUMBER, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import to_text
from nozle_server.core.numbers import bounded
from nozle_server.core.text import parse_id
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Deduction, Refusal
from nozle_server.credits.spending import Spending
from nozle_server.credits.spending import deduct as spend

_CUSTOMER_ALIASES = {"customerId": "customer_id", "external_customer_id": "customer_id"}


class DeductBody(msgspec.Struct):
    """`credits` is positive; `feature` a label of the caller's."""

    customer_id: str
    credits: Amount
    feature: str | None = None
    entity_id: str | None = None
    credit_system: str | None = None


async def deduct(call: Call) -> object:
    body: DeductBody = call.body
    if body.feature is None and call.mount is not Mount.ENGINE:
        raise InvalidInput("feature is required", details={"feature": ["value_is_mandatory"]})
    spending = Spending(
        amount=bounded(Decimal(body.credits), "credits", minimum=ZERO, exclusive=True),
        feature=None if body.feature is None else parse_id(body.feature, "feature"),
        entity=None if body.entity_id is None else parse_id(body.entity_id, "entity_id"),
    )
    return await decide_together(
        call,
        customer=parse_id(body.customer_id, "customer_id"),
        decide=lambda book, now: deduct_from(book, spending, now),
        to_json=_deduction_json,
        feature=spending.feature,
        entity=spending.entity,
        credit_system=parse_code(body.credit_system),
    )


def deduct_from(book: Book | None, spending: Spending, now: datetime) -> Deduction:
    """As `spending.deduct`, also where the customer never had credits."""
    if book is None:
        return Deduction(False, ZERO, reason=Refusal.INSUFFICIENT_CREDITS)
    return spend(book, spending, now)


def _deduction_json(deduction: Deduction) -> dict[str, object]:
    if deduction.entry is not None:
        return {
            "allowed": True,
            "remaining": deduction.remaining,
            "transaction_id": to_text("txn", deduction.entry.id),
        }
    return {"allowed": False, "remaining": deduction.remaining} | refusal_json(
        deduction.reason, deduction.budget
    )


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/check-and-deduct",
        handler=deduct,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Take credits if the balance covers them",
        description=(
            "All or nothing, in one transaction under the account's row lock: never below zero, and with an"
            " `Idempotency-Key` exactly once, for ever. A refusal is a 200 with `allowed: false` that takes nothing; its"
            " `reason` is insufficient_credits, budget_exceeded (then `budget` says which) or entity_inactive."
            " `entity_id` names who of the customer's spends; `credit_system` on what, where it is not the default one"
            " or the one that the feature belongs to."
        ),
        tag="Credits",
        body=DeductBody,
        body_aliases=_CUSTOMER_ALIASES,
        reply_schema=shape(allowed=BOOLEAN, remaining=NUMBER),
        errors=(404,),
        idempotent=True,
        ledger=True,
        transaction=False,
        own_claims=True,
        lane=True,
        example=Example(
            request={"customer_id": "cust_123", "feature": "code_completion", "credits": 5},
            response={
                "allowed": True,
                "remaining": 95,
                "transaction_id": "txn_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
            },
        ),
    ),
)
