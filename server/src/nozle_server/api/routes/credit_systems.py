"""Credit systems and what units of a metric cost in them, in Core's form."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from nozle_server.api.core_resource import core_resource
from nozle_server.api.endpoint import BOTH, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, STRING, array, optional, shape
from nozle_server.catalog import credit_system_store
from nozle_server.catalog.credit_model import CreditRate, CreditSystem, SystemStatus
from nozle_server.catalog.credit_rates import current_rate
from nozle_server.catalog.credit_system_drafts import (
    CreditRateDraft,
    CreditSystemChange,
    CreditSystemDraft,
)
from nozle_server.catalog.model import Metric
from nozle_server.catalog.operations import credit_systems as operations
from nozle_server.catalog.queries import get_credit_system, get_rate_versions
from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import to_plain
from nozle_server.metering.timestamps import parse_timestamp


class CreditSystemBody(msgspec.Struct):
    credit_system: CreditSystemDraft


class CreditSystemChangeBody(msgspec.Struct):
    credit_system: CreditSystemChange


class CreditRateBody(msgspec.Struct):
    credit_rate: CreditRateDraft


class CreditSystemsQuery(PageQuery):
    """Those of a `status`, active or archived; all when it is left out."""

    status: str | None = None


def credit_system_json(system: CreditSystem) -> dict[str, object]:
    return {
        "lago_id": system.id,
        "nozle_id": system.id,
        "code": system.code,
        "name": system.name,
        "description": system.description,
        "unit_name": system.unit_name,
        "status": system.status,
        "features": list(system.features),
        "created_at": system.created_at,
        "updated_at": system.updated_at,
    }


def rate_json(
    system: CreditSystem, metric: Metric, versions: Sequence[CreditRate], now: datetime
) -> dict[str, object]:
    """What holds now (nulls when nothing does), and every version in order of time. Amounts are decimal strings."""
    holding = current_rate(versions, now)
    return {
        "credit_system": system.code,
        "billable_metric_code": metric.code,
        "feature_code": metric.code,
        **(_version_json(holding) if holding else dict.fromkeys(_VERSION["properties"])),
        "versions": [_version_json(one) for one in versions],
    }


def _version_json(rate: CreditRate) -> dict[str, object]:
    return {
        "lago_id": rate.id,
        "nozle_id": rate.id,
        "metric_amount": to_plain(rate.metric_amount),
        "credit_amount": to_plain(rate.credit_amount),
        "effective_from": rate.effective_from,
        "effective_to": rate.effective_to,
        "created_at": rate.created_at,
    }


async def create_system(call: Call) -> object:
    system = await operations.create_credit_system(
        call.tx, org_id=call.org_id, draft=call.body.credit_system, now=call.now
    )
    return {"credit_system": credit_system_json(system)}


async def list_systems(call: Call) -> object:
    query: CreditSystemsQuery = call.query
    systems, total = await credit_system_store.list_systems(
        call.tx, call.org_id, _status(query.status), limit=query.per_page, offset=query.offset
    )
    return {
        "credit_systems": [credit_system_json(one) for one in systems],
        "meta": page_meta(query, total),
    }


def _status(value: str | None) -> SystemStatus | None:
    try:
        return SystemStatus(value) if value else None
    except ValueError:
        raise InvalidInput(
            "status must be active or archived", details={"status": ["value_is_invalid"]}
        ) from None


async def show_system(call: Call) -> object:
    system = await get_credit_system(call.tx, call.org_id, call.path["code"])
    return {"credit_system": credit_system_json(system)}


async def update_system(call: Call) -> object:
    system = await operations.change_credit_system(
        call.tx,
        org_id=call.org_id,
        code=call.path["code"],
        change=call.body.credit_system,
        now=call.now,
    )
    return {"credit_system": credit_system_json(system)}


async def archive_system(call: Call) -> object:
    system = await operations.archive_credit_system(
        call.tx, org_id=call.org_id, code=call.path["code"], now=call.now
    )
    return {"credit_system": credit_system_json(system)}


async def show_rate(call: Call) -> object:
    found = await get_rate_versions(call.tx, call.org_id, call.path["code"], call.path["metric_code"])
    return {"credit_rate": rate_json(*found, call.now)}


async def set_rate(call: Call) -> object:
    draft: CreditRateDraft = getattr(call.body, "credit_rate", call.body)
    start = draft.effective_from
    found = await operations.set_rate(
        call.tx,
        org_id=call.org_id,
        system_code=call.path["code"],
        metric_code=call.path["metric_code"],
        draft=draft,
        effective_from=None if start is None else parse_timestamp(start, "effective_from"),
        now=call.now,
    )
    return {"credit_rate": rate_json(*found, call.now)}


async def end_rate(call: Call) -> object:
    found = await operations.end_rate(
        call.tx,
        org_id=call.org_id,
        system_code=call.path["code"],
        metric_code=call.path["metric_code"],
        now=call.now,
    )
    return {"credit_rate": rate_json(*found, call.now)}


_VERSION = shape(
    lago_id=optional(STRING),
    nozle_id=optional(STRING),
    metric_amount=optional(STRING),
    credit_amount=optional(STRING),
    effective_from=optional(INSTANT),
    effective_to=optional(INSTANT),
    created_at=optional(INSTANT),
)
_RATE = shape(
    credit_rate=shape(
        credit_system=STRING,
        billable_metric_code=STRING,
        versions=array(ANY_OBJECT),
        **_VERSION["properties"],
    )
)
_SYSTEM_SENT: dict[str, object] = {
    "code": "gpu",
    "name": "GPU seconds",
    "description": None,
    "unit_name": "seconds",
    "features": ["render"],
}
_VERSION_EXAMPLE: dict[str, object] = {
    "lago_id": "0198c4a5-5e8e-7c1e-8f4e-8a4d1f6f8f11",
    "nozle_id": "0198c4a5-5e8e-7c1e-8f4e-8a4d1f6f8f11",
    "metric_amount": "1000",
    "credit_amount": "2",
    "effective_from": "2026-01-01T00:00:00Z",
    "effective_to": None,
    "created_at": "2026-01-01T00:00:00Z",
}
_RATE_EXAMPLE = {
    "credit_rate": {
        "credit_system": "gpu",
        "billable_metric_code": "llm_calls",
        "feature_code": "llm_calls",
        **_VERSION_EXAMPLE,
        "versions": [_VERSION_EXAMPLE],
    }
}
_ARCHIVING = (
    "It is not removed: it grants and rates nothing new and gives up its feature labels, while customers keep what they"
    " have of it. The default system stays, and so does one that a plan grants credits of."
)


def _system_endpoint(one: Endpoint) -> Endpoint:
    """As every resource of Core's, on both mounts; the list by status, and archiving instead of deleting."""
    if one.handler is list_systems:
        return replace(one, mounts=BOTH, query=CreditSystemsQuery)
    if one.handler is archive_system:
        return replace(one, mounts=BOTH, summary="Archive a credit system", description=_ARCHIVING)
    return replace(one, mounts=BOTH)


def _rate_endpoint(method: str, handler: Any, summary: str, description: str = "", **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path="/credit-systems/{code}/rates/{metric_code}",
        handler=handler,
        scope=Scope.SECRET,
        mounts=BOTH,
        summary=summary,
        description=description,
        tag="Credit systems",
        reply_schema=_RATE,
        **more,
    )


ENDPOINTS = (
    *(
        _system_endpoint(one)
        for one in core_resource(
            path="/credit-systems",
            name="credit_system",
            plural="credit_systems",
            words="credit system",
            tag="Credit systems",
            body=CreditSystemBody,
            update_body=CreditSystemChangeBody,
            example=_SYSTEM_SENT,
            create=create_system,
            index=list_systems,
            show=show_system,
            update=update_system,
            delete=archive_system,
        )
    ),
    _rate_endpoint(
        "GET",
        show_rate,
        "Get what a metric costs in credits",
        "With every version, in order of time.",
        errors=(404,),
        example=Example(response=_RATE_EXAMPLE),
    ),
    _rate_endpoint(
        "PUT",
        set_rate,
        "Set what a metric costs in credits",
        (
            "`metric_amount` units cost `credit_amount` credits, from `effective_from` (default: now) on. What has held"
            " stays in the history; a metric with a history keeps what it counts. Only a count, or the sum of a property"
            " that is not recurring, can be paid by credits."
        ),
        body=CreditRateDraft,
        wrapped_key="credit_rate",
        wrapped_body=CreditRateBody,
        errors=(404, 422),
        example=Example(request={"metric_amount": "1000", "credit_amount": "2"}, response=_RATE_EXAMPLE),
    ),
    _rate_endpoint(
        "DELETE",
        end_rate,
        "End what a metric costs in credits",
        "From now on the metric has no rate in this system; its history stays.",
        errors=(404,),
        example=Example(response=_RATE_EXAMPLE),
    ),
)
