"""Top-ups that a customer gives to one of its entities, and takes back."""

from decimal import Decimal
from typing import Any

import msgspec

from nozle_server.api.credit_forms import moved_json
from nozle_server.api.endpoint import SEED, Amount, Call, Endpoint, Example, Scope
from nozle_server.api.shapes import ANY_OBJECT, BOOLEAN, STRING, array, shape
from nozle_server.catalog.queries import get_credit_system
from nozle_server.core.ids import to_text
from nozle_server.core.numbers import parse_amount, to_plain
from nozle_server.core.text import parse_id
from nozle_server.credits.operations.entity_transfers import Direction, transfer_credits
from nozle_server.customers.queries import get_customer


class TransferBody(msgspec.Struct):
    """`credit_system` is a system's code; `amount` positive."""

    credit_system: str
    amount: Amount


async def allocate(call: Call) -> object:
    return await _transfer(call, Direction.ALLOCATION)


async def deallocate(call: Call) -> object:
    return await _transfer(call, Direction.DEALLOCATION)


async def _transfer(call: Call, direction: Direction) -> object:
    body: TransferBody = call.body
    amount = parse_amount(Decimal(body.amount), "amount", minimum=Decimal(0), exclusive=True)
    entity = parse_id(call.path["entity_id"], "entity_id")
    customer = await get_customer(call.tx, call.org_id, call.path["customer_id"])
    system = await get_credit_system(call.tx, call.org_id, body.credit_system)
    moved = await transfer_credits(
        call.tx,
        call.services.seams.change_bus,
        org_id=call.org_id,
        customer_id=customer.id,
        entity=entity,
        credit_system=system.code,
        direction=direction,
        amount=amount,
        now=call.now,
    )
    return {
        "transferred": moved.reason is None,
        "operation_id": to_text("txn", moved.operation_id),
        "customer_id": customer.external_id,
        "entity_id": entity,
        "credit_system": system.code,
        "direction": direction,
        "amount": to_plain(amount),
        "available": to_plain(moved.available),
        **({} if moved.reason is None else {"reason": moved.reason}),
        "parent_sources": [moved_json(one) for one in moved.parents],
        "entity_sources": [moved_json(one) for one in moved.own],
    }


_PARENT = "grant_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e"
_OWN = "grant_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0f"
_PARENT_MOVE = {
    "source_id": _PARENT,
    "parent_source_id": None,
    "source_type": "top_up",
    "scope": "customer",
    "amount": "20",
    "before": "100",
    "after": "80",
    "expires_at": None,
    "created": False,
}
_OWN_MOVE = {
    **_PARENT_MOVE,
    "source_id": _OWN,
    "parent_source_id": _PARENT,
    "source_type": "allocated_top_up",
    "scope": "entity",
    "before": "0",
    "after": "20",
    "created": True,
}
_TRANSFER: dict[str, Any] = {
    "transferred": True,
    "operation_id": "txn_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
    "customer_id": "cust_123",
    "entity_id": "research-agent",
    "credit_system": "ai_credits",
    "direction": "allocation",
    "amount": "20",
    "available": "80",
    "parent_sources": [_PARENT_MOVE],
    "entity_sources": [_OWN_MOVE],
    "replayed": False,
}
_BACK: dict[str, Any] = {
    **_TRANSFER,
    "direction": "deallocation",
    "available": "0",
    "parent_sources": [{**_PARENT_MOVE, "before": "80", "after": "100"}],
    "entity_sources": [{**_OWN_MOVE, "before": "20", "after": "0", "created": False}],
}
_RULES = (
    " All of `amount` or nothing: what there is not enough of is a 200 with `transferred: false` and a `reason`"
    " (insufficient_credits, entity_inactive), and is kept as a denied operation. `available` is what can still be moved this"
    " way."
)


def _endpoint(name: str, handler: Any, summary: str, description: str, response: object) -> Endpoint:
    return Endpoint(
        method="POST",
        path="/customers/{customer_id}/entities/{entity_id}/" + name,
        handler=handler,
        scope=Scope.SECRET,
        mounts=SEED,
        summary=summary,
        description=description + _RULES,
        tag="Product credits",
        body=TransferBody,
        reply_schema=shape(
            transferred=BOOLEAN,
            operation_id=STRING,
            customer_id=STRING,
            entity_id=STRING,
            credit_system=STRING,
            direction=STRING,
            amount=STRING,
            available=STRING,
            parent_sources=array(ANY_OBJECT),
            entity_sources=array(ANY_OBJECT),
            replayed=BOOLEAN,
        ),
        errors=(404,),
        idempotent=True,
        key_required=True,
        tells_replay=True,
        ledger=True,
        one_at_a_time=(("path", "customer_id"),),
        example=Example(request={"credit_system": "ai_credits", "amount": "20"}, response=response),
    )


ENDPOINTS = (
    _endpoint(
        "credit-allocations",
        allocate,
        "Give an entity of its customer's top-ups",
        "Only what was bought can be given; what the entity gets keeps priority and expiry, and returns when it ends.",
        _TRANSFER,
    ),
    _endpoint(
        "credit-deallocations",
        deallocate,
        "Take top-ups back from an entity",
        "Only what was allocated and is not spent: it returns to the grants that it came from.",
        _BACK,
    ),
)
