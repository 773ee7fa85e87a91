"""What is watched for on a customer's credits: low-balance alerts, and the rule that wishes for a top-up."""

from decimal import Decimal
from typing import Annotated

import msgspec

from nozle_server.api.deciding import parse_code
from nozle_server.api.endpoint import SEED, Amount, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.shapes import ANY_OBJECT, INSTANT, NUMBER, STRING, array, optional, shape
from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.core.ids import from_text, to_text
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id, parse_text
from nozle_server.credits.book import Book
from nozle_server.credits.giving import a_grant
from nozle_server.credits.model import ZERO, GrantSource
from nozle_server.credits.operations.grants import schedule_expiry
from nozle_server.credits.operations.watching import (
    answer_top_up,
    open_book,
    remove_alert,
    remove_top_up_rule,
    rule_not_found,
    set_alert,
    set_top_up_rule,
)
from nozle_server.credits.queries import find_book
from nozle_server.credits.watching import Alert, TopUpRule, month_of
from nozle_server.customers.queries import lock_customer
from nozle_server.metering.timestamps import parse_timestamp


class CreditSystemQuery(msgspec.Struct):
    """Which credit system; the default one, when none is named."""

    credit_system: str | None = None


class CreditAlertBody(msgspec.Struct):
    """`threshold` is positive: told when the credits fall below it."""

    threshold: Amount
    name: str | None = None


class TopUpRuleBody(msgspec.Struct):
    """Below `threshold` credits, `amount` more are wished for; `monthly_cap` bounds what is wished for in a month."""

    amount: Amount
    threshold: Amount
    monthly_cap: Amount | None = None


class TopUpBody(msgspec.Struct):
    """What was bought; as much as was wished for, when no `amount` is given."""

    amount: Amount | None = None
    expires_at: object = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 50
    description: str | None = None


async def list_alerts(call: Call) -> object:
    book = await _looked_at(call)
    return {"alerts": [_alert_json(one) for one in (book.alerts if book else ())]}


async def put_alert(call: Call) -> object:
    body: CreditAlertBody = call.body
    threshold = _positive(body.threshold, "threshold")
    alert = Alert(parse_id(call.path["code"], "code"), parse_text(body.name, "name"), threshold)
    await set_alert(call.tx, await _locked(call), alert, call.now)
    return _alert_json(alert)


async def delete_alert(call: Call) -> object:
    return _alert_json(await remove_alert(call.tx, await _locked(call), call.path["code"]))


async def get_rule(call: Call) -> object:
    book = await _looked_at(call)
    if book is None or book.rule is None:
        raise rule_not_found()
    return _rule_json(call, book.rule, book)


async def put_rule(call: Call) -> object:
    body: TopUpRuleBody = call.body
    amount = _positive(body.amount, "amount")
    cap = None
    if body.monthly_cap is not None:
        cap = parse_amount(Decimal(body.monthly_cap), "monthly_cap", minimum=amount)
    wanted = TopUpRule(amount, _positive(body.threshold, "threshold"), cap)
    book = await _locked(call)
    rule = await set_top_up_rule(call.tx, call.services.seams.change_bus, book, wanted, call.now)
    return _rule_json(call, rule, book)


async def delete_rule(call: Call) -> object:
    book = await _locked(call)
    return _rule_json(call, await remove_top_up_rule(call.tx, book), book)


async def grant_top_up(call: Call) -> object:
    body: TopUpBody = call.body or TopUpBody()
    wish_id = from_text("topup", call.path["top_up_id"], what="top up")
    book = await _locked(call)
    wished = book.rule.amount if book.rule else ZERO
    grant = a_grant(
        wished if body.amount is None else _positive(body.amount, "amount"),
        GrantSource.TOP_UP,
        call.now,
        priority=body.priority,
        reference=f"top_up:{wish_id}",
        description=parse_text(body.description, "description"),
        expires_at=None if body.expires_at is None else parse_timestamp(body.expires_at, "expires_at"),
    )
    given = await answer_top_up(call.tx, call.services.seams.change_bus, book, wish_id, call.now, grant=grant)
    assert given is not None, "it was answered by a grant"
    await schedule_expiry(call.tx, call.org_id, given, call.now)
    return {
        "id": to_text("grant", given.id),
        "top_up_id": to_text("topup", wish_id),
        "customer_id": call.path["id"],
        "amount": given.amount,
        "remaining": book.left(given.id),
        "expires_at": given.expires_at,
        "balance": book.balance,
    }


async def decline_top_up(call: Call) -> object:
    wish_id = from_text("topup", call.path["top_up_id"], what="top up")
    book = await _locked(call)
    await answer_top_up(call.tx, call.services.seams.change_bus, book, wish_id, call.now, grant=None)
    assert book.rule is not None, "it had a wish"
    return _rule_json(call, book.rule, book)


async def _looked_at(call: Call) -> Book | None:
    system = parse_code(call.query.credit_system) or DEFAULT_CREDIT_SYSTEM
    return await find_book(
        call.tx, org_id=call.org_id, customer=call.path["id"], now=call.now, credit_system=system
    )


async def _locked(call: Call) -> Book:
    customer = await lock_customer(call.tx, call.org_id, call.path["id"])
    system = parse_code(call.query.credit_system) or DEFAULT_CREDIT_SYSTEM
    return await open_book(
        call.tx, org_id=call.org_id, customer_id=customer.id, credit_system=system, now=call.now
    )


def _positive(amount: object, field: str) -> Decimal:
    return parse_amount(Decimal(str(amount)), field, minimum=ZERO, exclusive=True)


def _alert_json(alert: Alert) -> dict[str, object]:
    return {"code": alert.code, "name": alert.name, "threshold": alert.threshold}


def _rule_json(call: Call, rule: TopUpRule, book: Book) -> dict[str, object]:
    month = month_of(call.now, book.usage.timezone)
    return {
        "customer_id": call.path["id"],
        "credit_system": book.account.credit_system,
        "status": rule.status,
        "amount": rule.amount,
        "threshold": rule.threshold,
        "monthly_cap": rule.monthly_cap,
        "wished_in_month": rule.wished(month),
        "capped": rule.is_capped(month),
        "waiting_top_up_id": None if rule.wish_id is None else to_text("topup", rule.wish_id),
        "waiting_since": rule.wished_at,
    }


_ALERT = shape(code=STRING, name=optional(STRING), threshold=NUMBER)
_ALERT_EXAMPLE = {"code": "low", "name": "Running low", "threshold": 20}
_RULE = shape(
    customer_id=STRING,
    credit_system=STRING,
    status=STRING,
    amount=NUMBER,
    threshold=NUMBER,
    monthly_cap=optional(NUMBER),
    wished_in_month=NUMBER,
    waiting_top_up_id=optional(STRING),
    waiting_since=optional(INSTANT),
)
_TOP_UP_ID = "topup_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e"
_RULE_EXAMPLE = {
    "customer_id": "cust_123",
    "credit_system": "credits",
    "status": "active",
    "amount": 500,
    "threshold": 50,
    "monthly_cap": 2000,
    "wished_in_month": 500,
    "capped": False,
    "waiting_top_up_id": _TOP_UP_ID,
    "waiting_since": "2026-01-15T10:30:00Z",
}
_CREDITS = CustomerData("path", "id", "credits:read")

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/credits/{id}/alerts",
        handler=list_alerts,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="List a customer's low-balance alerts",
        tag="Credits",
        query=CreditSystemQuery,
        reply_schema=shape(alerts=array(ANY_OBJECT)),
        errors=(404,),
        customer_data=_CREDITS,
        snapshot=True,
        example=Example(response={"alerts": [_ALERT_EXAMPLE]}),
    ),
    Endpoint(
        method="PUT",
        path="/credits/{id}/alerts/{code}",
        handler=put_alert,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Set a low-balance alert",
        description=(
            "Announced as `credits.balance_low` each time that the customer's own credits (not those given to its"
            " entities) fall from the threshold or above to below it; once a fall."
        ),
        tag="Credits",
        body=CreditAlertBody,
        query=CreditSystemQuery,
        reply_schema=_ALERT,
        errors=(404,),
        idempotent=True,
        one_at_a_time=(("path", "id"),),
        example=Example(request={"threshold": 20, "name": "Running low"}, response=_ALERT_EXAMPLE),
    ),
    Endpoint(
        method="DELETE",
        path="/credits/{id}/alerts/{code}",
        handler=delete_alert,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Remove a low-balance alert",
        tag="Credits",
        query=CreditSystemQuery,
        reply_schema=_ALERT,
        errors=(404,),
        idempotent=True,
        one_at_a_time=(("path", "id"),),
        example=Example(response=_ALERT_EXAMPLE),
    ),
    Endpoint(
        method="GET",
        path="/credits/{id}/top-up-rule",
        handler=get_rule,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="Get a customer's automatic top-up",
        tag="Credits",
        query=CreditSystemQuery,
        reply_schema=_RULE,
        errors=(404,),
        customer_data=_CREDITS,
        snapshot=True,
        example=Example(response=_RULE_EXAMPLE),
    ),
    Endpoint(
        method="PUT",
        path="/credits/{id}/top-up-rule",
        handler=put_rule,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Set automatic top-up",
        description=(
            "Below `threshold` credits, `amount` more are wished for: announced once as `credits.top_up_wanted`, and not"
            " again before that wish is answered, by a grant of what was bought or by declining it. At most `monthly_cap`"
            " credits are wished for in a calendar month of the customer. Setting a rule makes a paused one active."
        ),
        tag="Credits",
        body=TopUpRuleBody,
        query=CreditSystemQuery,
        reply_schema=_RULE,
        errors=(404,),
        idempotent=True,
        one_at_a_time=(("path", "id"),),
        example=Example(
            request={"amount": 500, "threshold": 50, "monthly_cap": 2000}, response=_RULE_EXAMPLE
        ),
    ),
    Endpoint(
        method="DELETE",
        path="/credits/{id}/top-up-rule",
        handler=delete_rule,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="End automatic top-up",
        tag="Credits",
        query=CreditSystemQuery,
        reply_schema=_RULE,
        errors=(404,),
        idempotent=True,
        one_at_a_time=(("path", "id"),),
        example=Example(response=_RULE_EXAMPLE),
    ),
    Endpoint(
        method="POST",
        path="/credits/{id}/top-ups/{top_up_id}/grant",
        handler=grant_top_up,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Answer a wish for a top-up with the credits bought",
        description="Once: a wish that was answered already is a 409 `top_up_answered`.",
        tag="Credits",
        body=TopUpBody,
        body_optional=True,
        query=CreditSystemQuery,
        reply_schema=shape(id=STRING, top_up_id=STRING, customer_id=STRING, amount=NUMBER, balance=NUMBER),
        errors=(404, 409),
        idempotent=True,
        one_at_a_time=(("path", "id"),),
        ledger=True,
        example=Example(
            request={"description": "Paid by card"},
            response={
                "id": "grant_019a2f6c8b7e7c3a9d1e5f4a3b2c1d0e",
                "top_up_id": _TOP_UP_ID,
                "customer_id": "cust_123",
                "amount": 500,
                "remaining": 500,
                "expires_at": None,
                "balance": 540,
            },
        ),
    ),
    Endpoint(
        method="POST",
        path="/credits/{id}/top-ups/{top_up_id}/decline",
        handler=decline_top_up,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Decline a wish for a top-up",
        description="For a payment that failed: the rule is paused until it is set anew, so that it does not ask again.",
        tag="Credits",
        query=CreditSystemQuery,
        reply_schema=_RULE,
        errors=(404, 409),
        idempotent=True,
        one_at_a_time=(("path", "id"),),
        example=Example(
            response={**_RULE_EXAMPLE, "status": "paused", "waiting_top_up_id": None, "waiting_since": None}
        ),
    ),
)
