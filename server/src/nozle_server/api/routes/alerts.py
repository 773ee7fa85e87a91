"""Alerts on a subscription's usage and on wallets, in Core's form."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from nozle_server.alerts import operations, store
from nozle_server.alerts.drafts import AlertChanges, AlertDraft
from nozle_server.alerts.model import Alert
from nozle_server.alerts.operations import Owner
from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.routes.billable_metrics import metric_json
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.catalog import metric_store
from nozle_server.core.errors import InvalidInput, NozleError
from nozle_server.core.numbers import to_decimal_text
from nozle_server.customers.queries import get_customer
from nozle_server.wallets.model import Wallet
from nozle_server.wallets.queries import get_wallet_by_code
from nozle_server.workflows.check_alerts import value_of_wallet
from nozle_server.workflows.lifetime_usage import find_subscription

MOST_AT_ONCE = 100


class AlertBody(msgspec.Struct):
    """One alert, or several: all or none."""

    alert: AlertDraft | None = None
    alerts: list[AlertDraft] | None = None


class AlertChangesBody(msgspec.Struct):
    alert: AlertChanges


Found = tuple[Owner, Wallet | None]


async def _of_subscription(call: Call) -> Found:
    subscription = await find_subscription(call.tx, call.org_id, call.path["external_id"])
    return Owner(subscription.customer_id, external_subscription_id=subscription.external_id), None


async def _of_wallet(call: Call) -> Found:
    customer = await get_customer(call.tx, call.org_id, call.path["external_id"])
    wallet = await get_wallet_by_code(call.tx, call.org_id, customer.id, call.path["wallet_code"])
    return Owner(customer.id, wallet_id=wallet.id), wallet


async def alert_json(call: Call, alert: Alert, wallet: Wallet | None) -> dict[str, object]:
    metric = None
    if alert.metric_id is not None:
        metric = metric_json(await metric_store.get_metric_by_id(call.tx, call.org_id, alert.metric_id))
    return {
        "lago_id": alert.id,
        "nozle_id": alert.id,
        "lago_organization_id": alert.org_id,
        "external_subscription_id": alert.external_subscription_id,
        "subscription_external_id": alert.external_subscription_id,
        "lago_wallet_id": alert.wallet_id,
        "wallet_code": wallet.code if wallet else None,
        "alert_type": alert.alert_type,
        "code": alert.code,
        "name": alert.name,
        "direction": alert.alert_type.direction,
        "previous_value": to_decimal_text(alert.previous_value),
        "last_processed_at": alert.last_processed_at,
        "thresholds": [
            {"code": one.code, "value": to_decimal_text(one.value), "recurring": one.recurring}
            for one in alert.thresholds
        ],
        "billable_metric": metric,
        "feature": metric,
        "created_at": alert.created_at,
    }


def _handlers(
    find: Callable[[Call], Awaitable[Found]],
) -> dict[str, Callable[[Call], Awaitable[object]]]:
    """The handlers for alerts of what `find` finds."""

    async def create(call: Call) -> object:
        owner, wallet = await find(call)
        body: AlertBody = call.body
        if body.alert is not None:
            alert = await _create(call, owner, wallet, body.alert)
            return {"alert": await alert_json(call, alert, wallet)}
        alerts = await _create_all(call, owner, wallet, body.alerts or [])
        return {"alerts": [await alert_json(call, alert, wallet) for alert in alerts]}

    async def index(call: Call) -> object:
        owner, wallet = await find(call)
        query: PageQuery = call.query
        alerts, total = await store.list_page(
            call.tx,
            call.org_id,
            external_subscription_id=owner.external_subscription_id,
            wallet_id=owner.wallet_id,
            limit=query.per_page,
            offset=query.offset,
        )
        return {
            "alerts": [await alert_json(call, alert, wallet) for alert in alerts],
            "meta": page_meta(query, total),
        }

    async def show(call: Call) -> object:
        owner, wallet = await find(call)
        alert = await operations.get_alert(call.tx, call.org_id, owner, call.path["code"])
        return {"alert": await alert_json(call, alert, wallet)}

    async def update(call: Call) -> object:
        owner, wallet = await find(call)
        alert = await operations.update_alert(
            call.tx,
            org_id=call.org_id,
            owner=owner,
            code=call.path["code"],
            changes=call.body.alert,
            now=call.now,
        )
        return {"alert": await alert_json(call, alert, wallet)}

    async def delete(call: Call) -> object:
        owner, wallet = await find(call)
        alert = await operations.delete_alert(
            call.tx, org_id=call.org_id, owner=owner, code=call.path["code"], now=call.now
        )
        return {"alert": await alert_json(call, alert, wallet)}

    async def delete_all(call: Call) -> object:
        owner, _ = await find(call)
        await operations.delete_alerts(call.tx, org_id=call.org_id, owner=owner, now=call.now)
        return {"alerts": []}

    return {
        "create": create,
        "index": index,
        "show": show,
        "update": update,
        "delete": delete,
        "delete_all": delete_all,
    }


async def _create(call: Call, owner: Owner, wallet: Wallet | None, draft: AlertDraft) -> Alert:
    value = None
    if wallet is not None:
        value = await value_of_wallet(call.tx, call.services.seams, wallet, draft.alert_type, call.now)
    return await operations.create_alert(
        call.tx, org_id=call.org_id, owner=owner, draft=draft, now=call.now, value=value
    )


async def _create_all(
    call: Call, owner: Owner, wallet: Wallet | None, drafts: list[AlertDraft]
) -> list[Alert]:
    if not drafts:
        raise InvalidInput("there are no alerts", details={"alerts": ["no_alerts"]})
    if len(drafts) > MOST_AT_ONCE:
        raise InvalidInput(f"at most {MOST_AT_ONCE} alerts at once", details={"alerts": ["invalid_size"]})
    alerts: list[Alert] = []
    errors: dict[str, list[str]] = {}
    for index, draft in enumerate(drafts):
        try:
            alerts.append(await _create(call, owner, wallet, draft))
        except NozleError as error:
            codes = [code for codes in error.details.values() for code in codes]
            errors[str(index)] = codes or [error.code]
    if errors:
        raise InvalidInput("some alerts cannot be made, so none was", details=errors)
    return alerts


_ALERT: dict[str, Any] = {
    "alert_type": "current_usage_amount",
    "code": "budget",
    "name": "Budget",
    "thresholds": [
        {"code": "warn", "value": "8000", "recurring": False},
        {"code": "more", "value": "1000", "recurring": True},
    ],
}
_WALLET_ALERT: dict[str, Any] = {
    **_ALERT,
    "alert_type": "wallet_balance_amount",
    "thresholds": [{"code": "low", "value": "500", "recurring": False}],
}


def _endpoints(
    path: str, words: str, find: Callable[[Call], Awaitable[Found]], alert: dict[str, Any]
) -> tuple[Endpoint, ...]:
    handlers = _handlers(find)
    one = shape(alert=ANY_OBJECT)
    sent = {"alert": alert}
    rows: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
        (
            "POST",
            "",
            "create",
            f"Create alerts on {words}",
            {
                "description": 'One as `{"alert": ...}`, or several as `{"alerts": [...]}`, all or none.',
                "body": AlertBody,
                "errors": (404, 422),
                "idempotent": True,
                "reply_schema": ANY_OBJECT,
                "example": Example(request=sent, response=sent),
            },
        ),
        (
            "GET",
            "",
            "index",
            f"List the alerts on {words}",
            {
                "query": PageQuery,
                "errors": (404,),
                "reply_schema": shape(alerts=array(ANY_OBJECT), meta=PAGE_META),
                "example": Example(response={"alerts": [alert], "meta": page_meta(PageQuery(), 1)}),
            },
        ),
        (
            "DELETE",
            "",
            "delete_all",
            f"Delete all alerts on {words}",
            {
                "errors": (404,),
                "reply_schema": shape(alerts=array(ANY_OBJECT)),
                "example": Example(response={"alerts": []}),
            },
        ),
        (
            "GET",
            "/{code}",
            "show",
            f"Get an alert on {words}",
            {"errors": (404,), "reply_schema": one, "example": Example(response=sent)},
        ),
        (
            "PUT",
            "/{code}",
            "update",
            f"Change an alert on {words}",
            {
                "description": "What is left out stays; `thresholds` replace what was there.",
                "body": AlertChangesBody,
                "errors": (404, 422),
                "reply_schema": one,
                "example": Example(request=sent, response=sent),
            },
        ),
        (
            "DELETE",
            "/{code}",
            "delete",
            f"Delete an alert on {words}",
            {"errors": (404,), "reply_schema": one, "example": Example(response=sent)},
        ),
    )
    return tuple(
        Endpoint(
            method=method,
            path=path + suffix,
            handler=handlers[name],
            scope=Scope.SECRET,
            mounts=CORE,
            summary=summary,
            tag="Alerts",
            **more,
        )
        for method, suffix, name, summary, more in rows
    )


ENDPOINTS = (
    *_endpoints("/subscriptions/{external_id}/alerts", "a subscription's usage", _of_subscription, _ALERT),
    *_endpoints(
        "/customers/{external_id}/wallets/{wallet_code}/alerts", "a wallet", _of_wallet, _WALLET_ALERT
    ),
)
