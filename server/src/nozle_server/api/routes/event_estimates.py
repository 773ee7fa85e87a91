"""What events would cost, had they been sent: Core's estimates. They write nothing."""

from collections.abc import Sequence

from nozle_server.api.core_fees import fees_json
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Handler, Scope
from nozle_server.api.event_forms import (
    CORE_ENTRY,
    CoreEvent,
    CoreEventBody,
    EventBatch,
    read_entry,
    to_be_estimated,
)
from nozle_server.api.shapes import ANY_OBJECT, array, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.invoicing.model import InvoiceLine
from nozle_server.workflows.estimate_event import estimate_fees, estimate_instant_fees

MAX_BATCH = 100


async def estimate(call: Call) -> object:
    event: CoreEvent = call.body.event
    lines = await estimate_fees(
        call.tx, call.services.seams, org_id=call.org_id, event=to_be_estimated(event), now=call.now
    )
    return {"fees": await _fees(call, lines, event)}


async def estimate_instant(call: Call) -> object:
    return {"fees": await _instant(call, call.body.event)}


async def estimate_instant_batch(call: Call) -> object:
    drafts = call.body.events
    if not 1 <= len(drafts) <= MAX_BATCH:
        raise InvalidInput(f"a batch has 1 to {MAX_BATCH} events", details={"events": ["invalid_size"]})
    fees: list[dict[str, object]] = []
    for draft in drafts:
        fees += await _instant(call, read_entry(CORE_ENTRY, draft))
    return {"fees": fees}


async def _instant(call: Call, event: CoreEvent) -> list[dict[str, object]]:
    lines = await estimate_instant_fees(
        call.tx, org_id=call.org_id, event=to_be_estimated(event), now=call.now
    )
    return await _fees(call, lines, event)


async def _fees(call: Call, lines: Sequence[InvoiceLine], event: CoreEvent) -> list[dict[str, object]]:
    """Fees that do not exist have no id and no time."""
    made_up = {"lago_id": None, "nozle_id": None, "created_at": None}
    return [
        {**fee, **made_up, "event_transaction_id": event.transaction_id}
        for fee in await fees_json(call.tx, call.org_id, lines)
    ]


_EVENT = {
    "code": "llm_tokens",
    "external_subscription_id": "sub_123",
    "properties": {"input_tokens": 374, "output_tokens": 44},
}
_FEES = {"fees": [{"lago_id": None, "amount_cents": 12, "amount_currency": "USD", "units": "418"}]}
_ABOUT = "422 `does_not_match_an_instant_charge` when no charge is paid in advance for it."


def _endpoint(
    name: str, handler: Handler, summary: str, description: str, *, batch: bool = False
) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/events/{name}",
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        description=f"{description} {_ABOUT}",
        tag="Events",
        body=EventBatch if batch else CoreEventBody,
        reply_schema=shape(fees=array(ANY_OBJECT)),
        errors=(404, 422),
        example=Example(request={"events": [_EVENT]} if batch else {"event": _EVENT}, response=_FEES),
    )


ENDPOINTS = (
    _endpoint(
        "estimate_fees",
        estimate,
        "What an event would cost",
        "The fees of charges paid in advance, after what was used in the period, with tax. Nothing is written.",
    ),
    _endpoint(
        "estimate_instant_fees",
        estimate_instant,
        "What an event costs by itself",
        "Of standard and percentage charges paid in advance, without a look at usage, without tax.",
    ),
    _endpoint(
        "batch_estimate_instant_fees",
        estimate_instant_batch,
        "What events cost, each by itself",
        f"Up to {MAX_BATCH} events, as `estimate_instant_fees`.",
        batch=True,
    ),
)
