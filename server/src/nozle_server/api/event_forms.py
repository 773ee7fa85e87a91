"""The forms a meter event comes in (direct, Core's) and the one it goes out in."""

from decimal import Decimal
from typing import Any

import msgspec

from nozle_server.api.endpoint import Call, Mount
from nozle_server.api.parse import BodyReader
from nozle_server.core.errors import InvalidInput
from nozle_server.core.fields import Amount
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount, to_plain
from nozle_server.core.text import parse_id
from nozle_server.infra.event_log import EventRecord
from nozle_server.metering.model import MeterEvent
from nozle_server.metering.timestamps import parse_timestamp

MAX_PROPERTIES_BYTES = 32 * 1024

EVENT_ALIASES = {
    "customerId": "customer_id",
    "external_customer_id": "customer_id",
    "metricCode": "metric_code",
    "billable_metric_code": "metric_code",
    "feature_code": "metric_code",
    "code": "metric_code",
    "external_subscription_id": "subscription_id",
}


class DirectEvent(msgspec.Struct):
    """The direct form: `value` is the quantity where the metric's property is absent."""

    metric_code: str
    customer_id: str | None = None
    subscription_id: str | None = None
    transaction_id: str | None = None
    value: Amount | None = None
    properties: dict[str, Any] = {}
    timestamp: object = None


class CoreEvent(msgspec.Struct):
    """Core's form, as the SDKs' `track()` sends it."""

    code: str
    transaction_id: str | None = None
    external_customer_id: str | None = None
    external_subscription_id: str | None = None
    timestamp: object = None
    properties: dict[str, Any] | None = None
    precise_total_amount_cents: Amount | None = None


class CoreEventBody(msgspec.Struct):
    event: CoreEvent


class EventBatch(msgspec.Struct):
    """At most 1,000 events, each read on its own: as `DirectEvent` (Core's names are accepted too), on Core as
    `CoreEvent`."""

    events: list[object]


DIRECT_ENTRY = BodyReader(DirectEvent, EVENT_ALIASES)

CORE_ENTRY = BodyReader(CoreEvent, {})


def from_direct(body: DirectEvent) -> MeterEvent:
    value = None if body.value is None else parse_amount(Decimal(body.value), "value", minimum=Decimal(0))
    return _event(
        transaction_id=body.transaction_id,
        customer=body.customer_id,
        subscription=body.subscription_id,
        code=body.metric_code,
        timestamp=body.timestamp,
        properties=body.properties,
        value=value,
    )


def from_core(body: CoreEvent, call: Call) -> MeterEvent:
    if body.transaction_id is None and call.mount is Mount.CORE:
        raise InvalidInput("transaction_id is required", details={"transaction_id": ["value_is_mandatory"]})
    return _event(
        transaction_id=body.transaction_id,
        customer=body.external_customer_id,
        subscription=body.external_subscription_id,
        code=body.code,
        timestamp=body.timestamp,
        properties=body.properties or {},
        precise=body.precise_total_amount_cents,
    )


def to_be_estimated(body: CoreEvent) -> MeterEvent:
    """An event that is only looked at: under an id of its own, so that it meets no stored one."""
    return _event(
        transaction_id=None,
        customer=body.external_customer_id,
        subscription=body.external_subscription_id,
        code=body.code,
        timestamp=body.timestamp,
        properties=body.properties or {},
        precise=body.precise_total_amount_cents,
    )


def read_entry(reader: BodyReader, draft: object) -> Any:
    """An entry of a batch as its Struct. A copy is read: readers rename, and a retried transaction reads again."""
    return reader.read(dict(draft) if isinstance(draft, dict) else draft)


def _event(
    *,
    transaction_id: str | None,
    customer: str | None,
    subscription: str | None,
    code: str,
    timestamp: object,
    properties: dict[str, Any],
    value: Decimal | None = None,
    precise: Decimal | None = None,
) -> MeterEvent:
    if customer is None and subscription is None:
        raise InvalidInput("customer_id is required", details={"customer_id": ["value_is_mandatory"]})
    check_properties(properties)
    return MeterEvent(
        transaction_id=str(new_id())
        if transaction_id is None
        else parse_id(transaction_id, "transaction_id"),
        external_customer_id=None if customer is None else parse_id(customer, "customer_id"),
        external_subscription_id=None if subscription is None else parse_id(subscription, "subscription_id"),
        code=parse_id(code, "code"),
        occurred_at=None if timestamp is None else parse_timestamp(timestamp),
        properties=properties,
        value=value,
        precise_total_amount_cents=precise,
    )


def check_properties(properties: dict[str, Any]) -> None:
    """InvalidInput for more than an event may carry."""
    if len(msgspec.json.encode(properties)) > MAX_PROPERTIES_BYTES:
        raise InvalidInput(
            f"properties are larger than {MAX_PROPERTIES_BYTES} bytes",
            details={"properties": ["value_is_too_long"]},
        )


def event_json(event: EventRecord) -> dict[str, object]:
    """A stored event. `billing_status` tells whether it counts: counted, late or unmatched, with the reason."""
    return {
        "lago_id": event.id,
        "nozle_id": event.id,
        "transaction_id": event.transaction_id,
        "lago_customer_id": event.customer_id,
        "external_customer_id": event.external_customer_id,
        "code": event.code,
        "timestamp": event.occurred_at,
        "precise_total_amount_cents": None
        if event.precise_total_amount_cents is None
        else to_plain(event.precise_total_amount_cents),
        "properties": event.properties,
        "lago_subscription_id": event.subscription_id,
        "external_subscription_id": event.external_subscription_id,
        "quantity": event.quantity,
        "created_at": event.received_at,
        "status": "accepted",
        "billing_status": event.status,
        "reason": event.reason,
    }
