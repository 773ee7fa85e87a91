"""Meter events: one, many, and what is stored."""

from collections.abc import Sequence
from datetime import datetime

from nozle_server.api.endpoint import CORE, SEED, Call, Endpoint, Example, Reply, Scope
from nozle_server.api.event_forms import (
    CORE_ENTRY,
    DIRECT_ENTRY,
    EVENT_ALIASES,
    CoreEventBody,
    DirectEvent,
    EventBatch,
    event_json,
    from_core,
    from_direct,
    read_entry,
)
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.errors import InvalidInput, NotFound, NozleError
from nozle_server.core.text import parse_id
from nozle_server.metering import store as metering_store
from nozle_server.metering.model import MeterEvent
from nozle_server.metering.timestamps import parse_instant
from nozle_server.workflows.ingest import Ingested, ingest
from nozle_server.workflows.lifetime_usage import find_subscription

MAX_BATCH = 1_000


class EventsQuery(PageQuery):
    external_subscription_id: str | None = None
    code: str | None = None
    timestamp_from: str | None = None
    timestamp_to: str | None = None
    timestamp_from_started_at: bool = False


async def create(call: Call) -> object:
    if isinstance(call.body, CoreEventBody):
        return await create_core(call)
    body: DirectEvent = call.body
    [answer] = await _ingest(call, [from_direct(body)], strict=True)
    return _one(answer)


async def create_core(call: Call) -> object:
    event = from_core(call.body.event, call)
    [answer] = await _ingest(call, [event], strict=False)
    return _one(answer)


def _one(answer: Ingested) -> object:
    if answer.error is not None:
        raise answer.error
    assert answer.event is not None
    headers = {"Idempotent-Replayed": "true"} if answer.replayed else {}
    return Reply({"event": event_json(answer.event)}, headers=headers)


async def create_batch(call: Call) -> object:
    """Each event is answered on its own, in order: `status` is accepted, replayed or error."""
    drafts = call.body.events
    _check_batch(drafts)
    events: list[MeterEvent | NozleError] = []
    for draft in drafts:
        try:
            events.append(from_direct(read_entry(DIRECT_ENTRY, draft)))
        except NozleError as error:
            events.append(error)
    good = [event for event in events if isinstance(event, MeterEvent)]
    answers = iter(await _ingest(call, good, strict=False))
    rows = []
    for draft, event in zip(drafts, events, strict=True):
        answer = next(answers) if isinstance(event, MeterEvent) else Ingested(None, error=event)
        rows.append(_batch_row(answer, draft.get("transaction_id") if isinstance(draft, dict) else None))
    return {"events": rows}


def _batch_row(answer: Ingested, transaction_id: object) -> dict[str, object]:
    if answer.event is not None:
        status = "replayed" if answer.replayed else "accepted"
        return {**event_json(answer.event), "status": status}
    assert answer.error is not None
    told = transaction_id if isinstance(transaction_id, str) and len(transaction_id) <= 255 else None
    return {
        "transaction_id": told,
        "status": "error",
        "error": answer.error.message,
        "code": answer.error.code,
        "error_details": answer.error.details,
    }


async def create_core_batch(call: Call) -> object:
    """All or nothing; errors by the event's index, as Lago."""
    drafts = call.body.events
    _check_batch(drafts)
    errors: dict[str, list[str]] = {}
    events: list[MeterEvent] = []
    for index, draft in enumerate(drafts):
        try:
            events.append(from_core(read_entry(CORE_ENTRY, draft), call))
        except NozleError as error:
            errors[str(index)] = [error.code]
    if not errors:
        answers = await _ingest(call, events, strict=False)
        errors = {str(index): [answer.error.code] for index, answer in enumerate(answers) if answer.error}
        if not errors:
            return {"events": [event_json(answer.event) for answer in answers if answer.event]}
    raise InvalidInput("some events cannot be taken, so none was", details=errors)


def _check_batch(drafts: Sequence[object]) -> None:
    if not 1 <= len(drafts) <= MAX_BATCH:
        raise InvalidInput(f"a batch has 1 to {MAX_BATCH} events", details={"events": ["invalid_size"]})


async def _ingest(call: Call, events: Sequence[MeterEvent], *, strict: bool) -> list[Ingested]:
    return await ingest(
        call.tx, call.services.seams, org_id=call.org_id, events=events, strict=strict, now=call.now
    )


async def list_events(call: Call) -> object:
    query: EventsQuery = call.query
    start = _instant(query.timestamp_from, "timestamp_from")
    if query.timestamp_from_started_at:
        start = await _started_at(call, query.external_subscription_id)
    events, total = await metering_store.list_events(
        call.tx,
        call.org_id,
        external_subscription_id=query.external_subscription_id,
        code=query.code,
        start=start,
        end=_instant(query.timestamp_to, "timestamp_to"),
        limit=query.per_page,
        offset=query.offset,
    )
    return {"events": [event_json(event) for event in events], "meta": page_meta(query, total)}


async def _started_at(call: Call, external_subscription_id: str | None) -> datetime:
    """When the subscription that is asked for started."""
    if external_subscription_id is None:
        raise InvalidInput(
            "external_subscription_id is required",
            details={"external_subscription_id": ["value_is_mandatory"]},
        )
    return (await find_subscription(call.tx, call.org_id, external_subscription_id)).started_at


def _instant(text: str | None, field: str) -> datetime | None:
    return None if text is None else parse_instant(text, field)


async def get_event(call: Call) -> object:
    transaction_id = parse_id(call.path["transaction_id"], "transaction_id")
    event = await call.services.seams.event_log.find(call.tx, call.org_id, transaction_id)
    if event is None:
        raise NotFound("event not found", code="event_not_found")
    return {"event": event_json(event)}


_EVENT = {
    "transaction_id": "req_8f2b",
    "external_customer_id": "cust_123",
    "code": "llm_tokens",
    "properties": {"model": "gpt-4o", "input_tokens": 374, "output_tokens": 44},
}

_STORED = {**_EVENT, "timestamp": "2026-01-15T10:30:00Z", "status": "accepted", "billing_status": "counted"}

_REPLY = shape(event=ANY_OBJECT)

_ABOUT = (
    "Durable before the answer, and counted at once. The same `transaction_id` again answers 200 with the stored event"
    " and `Idempotent-Replayed: true`; with another customer, code or properties it is a 409."
)

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/events",
        handler=create,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Send a meter event",
        description=_ABOUT
        + ' The direct form refuses what it cannot match to a customer with a subscription (422); the `{"event": ...}`'
        " form stores and flags it.",
        tag="Events",
        body=DirectEvent,
        body_aliases=EVENT_ALIASES,
        wrapped_key="event",
        wrapped_body=CoreEventBody,
        reply_schema=_REPLY,
        errors=(409, 422),
        example=Example(
            request={
                "transaction_id": "req_8f2b",
                "customer_id": "cust_123",
                "metric_code": "llm_tokens",
                "properties": _EVENT["properties"],
            },
            response={"event": _STORED},
        ),
    ),
    Endpoint(
        method="POST",
        path="/events",
        handler=create_core,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Send a meter event",
        description=_ABOUT,
        tag="Events",
        body=CoreEventBody,
        reply_schema=_REPLY,
        errors=(409, 422),
        example=Example(request={"event": _EVENT}, response={"event": _STORED}),
    ),
    Endpoint(
        method="POST",
        path="/events/batch",
        handler=create_batch,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Send up to 1,000 meter events",
        description="Each event is answered on its own, in order; sending a batch again is exact.",
        tag="Events",
        body=EventBatch,
        reply_schema=shape(events=array(ANY_OBJECT)),
        example=Example(request={"events": [_EVENT]}, response={"events": [_STORED]}),
    ),
    Endpoint(
        method="POST",
        path="/events/batch",
        handler=create_core_batch,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Send up to 1,000 meter events",
        description="All or nothing: one that cannot be taken refuses the batch, with errors by index.",
        tag="Events",
        body=EventBatch,
        reply_schema=shape(events=array(ANY_OBJECT)),
        errors=(422,),
        example=Example(request={"events": [_EVENT]}, response={"events": [_STORED]}),
    ),
    Endpoint(
        method="GET",
        path="/events",
        handler=list_events,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="List meter events",
        description="Newest first, unmatched and late ones included.",
        tag="Events",
        query=EventsQuery,
        reply_schema=shape(events=array(ANY_OBJECT), meta=PAGE_META),
        errors=(404, 422),
        example=Example(response={"events": [_STORED], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/events/{transaction_id}",
        handler=get_event,
        scope=Scope.SECRET,
        mounts=CORE,
        summary="Get a meter event",
        tag="Events",
        reply_schema=_REPLY,
        errors=(404,),
        example=Example(response={"event": _STORED}),
    ),
)
