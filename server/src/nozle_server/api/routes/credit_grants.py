"""Grants: credits given to a customer or one of its entities, and taken back while they are not spent."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import msgspec

from nozle_server.api.endpoint import SEED, Amount, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.ledger_forms import (
    EXAMPLE_GRANT,
    GRANT,
    TRANSACTION,
    example_transaction,
    grant_json,
    read_system,
    transaction_json,
)
from nozle_server.api.paging import Limit, from_id_cursor, to_id_cursor
from nozle_server.api.shapes import NUMBER, STRING, array, optional, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import from_text
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id, parse_text
from nozle_server.credits.model import ZERO, GrantSource
from nozle_server.credits.operations.corrections import void_grant
from nozle_server.credits.operations.grants import grant_credits
from nozle_server.credits.queries import list_grants, show_entry, show_grant
from nozle_server.customers.queries import get_customer
from nozle_server.metering.timestamps import parse_timestamp

_GIVEN = (GrantSource.MANUAL, GrantSource.TOP_UP, GrantSource.PROMOTION)
_RESERVED = ("plan:", "rollover:", "top_up:")
"""How the references begin of what plans and rules of top-ups grant."""


class GrantBody(msgspec.Struct):
    """`priority` 0 is spent first; without `expires_at` the credits last for ever. `reference` is a name for the one effect
    meant."""

    amount: Amount
    expires_at: object = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 50
    source: str = "manual"
    description: str | None = None
    reference: str | None = None
    entity_id: str | None = None
    credit_system: str | None = None


class VoidGrantBody(msgspec.Struct):
    """All that is left, when no `amount` is given."""

    amount: Amount | None = None


class GrantStatus(StrEnum):
    """Those that can be spent, or all there ever were."""

    LIVE = "live"
    ALL = "all"


class GrantsQuery(msgspec.Struct):
    status: GrantStatus = GrantStatus.LIVE
    entity_id: str | None = None
    credit_system: str | None = None
    limit: Limit = 50
    cursor: str | None = None


async def grant(call: Call) -> object:
    body: GrantBody = call.body
    amount = parse_amount(Decimal(body.amount), "amount", minimum=ZERO, exclusive=True)
    source, reference = _source(body.source), _reference(body.reference)
    entity = None if body.entity_id is None else parse_id(body.entity_id, "entity_id")
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    system = await read_system(call, body.credit_system)
    given, balance = await grant_credits(
        call.tx,
        call.services.seams.change_bus,
        org_id=call.org_id,
        customer_id=customer.id,
        amount=amount,
        source=source,
        now=call.now,
        expires_at=None if body.expires_at is None else parse_timestamp(body.expires_at, "expires_at"),
        priority=body.priority,
        reference=reference,
        description=parse_text(body.description, "description"),
        credit_system=system,
        entity=entity,
    )
    shown = await show_grant(call.tx, call.org_id, given)  # which may be an earlier one's
    answer = grant_json(shown.grant, customer=customer.external_id, entity=shown.entity, credit_system=system)
    return {**answer, "balance": balance}


async def index(call: Call) -> object:
    query: GrantsQuery = call.query
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    system = await read_system(call, query.credit_system)
    found, following = await list_grants(
        call.tx,
        org_id=call.org_id,
        customer_id=customer.id,
        credit_system=system,
        now=call.now,
        live=query.status is GrantStatus.LIVE,
        entity=None if query.entity_id is None else parse_id(query.entity_id, "entity_id"),
        before=from_id_cursor(query.cursor),
        limit=query.limit,
    )
    return {
        "grants": [
            grant_json(one.grant, customer=customer.external_id, entity=one.entity, credit_system=system)
            for one in found
        ],
        "next_cursor": None if following is None else to_id_cursor(following),
    }


async def void(call: Call) -> object:
    body: VoidGrantBody | None = call.body
    amount = None if body is None or body.amount is None else Decimal(body.amount)
    if amount is not None:
        parse_amount(amount, "amount", minimum=ZERO, exclusive=True)
    grant_id = from_text("grant", call.path["grant_id"], what="grant")
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    entry, balance = await void_grant(
        call.tx,
        call.services.seams.change_bus,
        org_id=call.org_id,
        customer_id=customer.id,
        grant_id=grant_id,
        amount=amount,
        now=call.now,
    )
    shown = transaction_json(await show_entry(call.tx, call.org_id, entry), draws=True)
    return {**shown, "balance": balance}


def _source(text: str) -> GrantSource:
    """Only plans grant for plans, and what undoes or moves has endpoints of its own."""
    if text not in _GIVEN:
        raise InvalidInput(
            "source must be manual, top_up or promotion", details={"source": ["value_is_invalid"]}
        )
    return GrantSource(text)


def _reference(text: str | None) -> str | None:
    if text is None:
        return None
    reference = parse_id(text, "reference")
    if reference.startswith(_RESERVED):
        raise InvalidInput(
            "a reference does not begin like those of plans and top-ups",
            details={"reference": ["value_is_invalid"]},
        )
    return reference


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/credits/{id}/grants",
        handler=grant,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Grant credits to a customer",
        description=(
            "Grants are spent by priority, then earliest expiry, then oldest. `source` is manual, top_up or promotion. With"
            " `entity_id` they are that entity's. A `reference` names the one effect meant: sent again, also under another"
            " Idempotency-Key, it answers the first grant and gives nothing more. What is owed is paid of a grant first."
        ),
        tag="Credits",
        body=GrantBody,
        reply_schema={**GRANT, "properties": {**GRANT["properties"], "balance": NUMBER}},
        errors=(404, 422),
        idempotent=True,
        ledger=True,
        one_at_a_time=(("path", "id"),),
        example=Example(
            request={"amount": 100, "expires_at": "2027-01-01T00:00:00Z", "description": "Welcome"},
            response={**EXAMPLE_GRANT, "balance": 100},
        ),
    ),
    Endpoint(
        method="GET",
        path="/credits/{id}/grants",
        handler=index,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="List a customer's grants",
        description="Newest first: those that can be spent, or with `status=all` all there ever were.",
        tag="Credits",
        query=GrantsQuery,
        reply_schema=shape(grants=array(GRANT), next_cursor=optional(STRING)),
        errors=(404,),
        customer_data=CustomerData("path", "id", "credits:read"),
        snapshot=True,
        example=Example(response={"grants": [EXAMPLE_GRANT], "next_cursor": None}),
    ),
    Endpoint(
        method="POST",
        path="/credits/{id}/grants/{grant_id}/void",
        handler=void,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Take back what is left of a grant",
        description=(
            "All that is left, or `amount` of it; what is held is not left. More than that is a 422"
            " `insufficient_credits`, nothing a 422 `nothing_to_void`."
        ),
        tag="Credits",
        body=VoidGrantBody,
        body_optional=True,
        reply_schema=TRANSACTION,
        errors=(404, 422),
        idempotent=True,
        ledger=True,
        one_at_a_time=(("path", "id"),),
        example=Example(request={"amount": 40}, response=example_transaction("void", -40, 60)),
    ),
)
