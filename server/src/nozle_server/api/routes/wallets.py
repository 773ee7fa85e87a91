"""Monetary wallets, in Core's form: by id, and by a customer and a code."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import from_text
from nozle_server.core.numbers import to_decimal_text
from nozle_server.core.text import parse_id
from nozle_server.customers import store as customers_store
from nozle_server.customers.model import Customer
from nozle_server.customers.queries import get_customer, lock_customer
from nozle_server.identity.queries import get_organization
from nozle_server.wallets import store
from nozle_server.wallets.balances import figures
from nozle_server.wallets.conversion import shown_credits, spendable_cents
from nozle_server.wallets.drafts import WalletChanges, WalletDraft
from nozle_server.wallets.model import RecurringRule, Wallet, WalletStatus
from nozle_server.wallets.operations.wallets import terminate_wallet, update_wallet
from nozle_server.wallets.queries import get_wallet, get_wallet_by_code, lock_wallet
from nozle_server.workflows.top_up_wallet import open_wallet
from nozle_server.workflows.wallet_usage import usage_by_wallet


class WalletBody(msgspec.Struct):
    wallet: WalletDraft


class WalletChangesBody(msgspec.Struct):
    wallet: WalletChanges


class WalletsQuery(PageQuery):
    external_customer_id: str | None = None
    currency: str | None = None


def wallet_json(wallet: Wallet, usage_cents: int, now: datetime) -> dict[str, object]:
    """`usage_cents` is the usage that the wallet will have to pay for."""
    shown = figures(wallet, usage_cents)
    rule = wallet.live_rule(now)
    consumed = shown_credits(wallet.consumed_amount, wallet.rate_amount)
    return {
        "lago_id": wallet.id,
        "nozle_id": wallet.id,
        "lago_customer_id": wallet.customer_id,
        "external_customer_id": wallet.external_customer_id,
        "status": wallet.status,
        "currency": wallet.currency,
        "name": wallet.name,
        "code": wallet.code,
        "priority": wallet.priority,
        "rate_amount": to_decimal_text(wallet.rate_amount),
        "credits_balance": to_decimal_text(shown.credits_balance),
        "credits_ongoing_balance": to_decimal_text(shown.credits_ongoing_balance),
        "credits_ongoing_usage_balance": to_decimal_text(shown.credits_ongoing_usage_balance),
        "balance_cents": shown.balance_cents,
        "ongoing_balance_cents": shown.ongoing_balance_cents,
        "ongoing_usage_balance_cents": shown.ongoing_usage_balance_cents,
        "consumed_credits": to_decimal_text(consumed),
        "consumed_amount_cents": spendable_cents(wallet.consumed_amount, wallet.currency),
        "created_at": wallet.created_at,
        "expiration_at": wallet.expiration_at,
        "last_balance_sync_at": wallet.last_synced_at,
        "last_consumed_credit_at": wallet.last_consumed_credit_at,
        "terminated_at": wallet.terminated_at,
        "invoice_requires_successful_payment": wallet.invoice_requires_successful_payment,
        "paid_top_up_min_amount_cents": wallet.paid_top_up_min_amount_cents,
        "paid_top_up_max_amount_cents": wallet.paid_top_up_max_amount_cents,
        "metadata": wallet.metadata,
        "recurring_transaction_rules": [] if rule is None else [_rule_json(rule)],
        "applies_to": {"fee_types": wallet.fee_types, "billable_metric_codes": wallet.metric_codes},
    }


def _rule_json(rule: RecurringRule) -> dict[str, object]:
    target = rule.target_ongoing_balance
    return {
        "lago_id": rule.id,
        "nozle_id": rule.id,
        "trigger": rule.trigger,
        "method": rule.method,
        "status": "active",
        "interval": rule.interval,
        "paid_credits": to_decimal_text(rule.paid_credits),
        "granted_credits": to_decimal_text(rule.granted_credits),
        "threshold_credits": to_decimal_text(rule.threshold_credits),
        "target_ongoing_balance": None if target is None else to_decimal_text(target),
        "started_at": rule.started_at,
        "expiration_at": rule.expiration_at,
        "invoice_requires_successful_payment": rule.invoice_requires_successful_payment,
        "ignore_paid_top_up_limits": rule.ignore_paid_top_up_limits,
        "transaction_name": rule.transaction_name,
        "transaction_metadata": rule.transaction_metadata,
        "created_at": rule.created_at,
    }


async def create_wallet(call: Call) -> object:
    draft: WalletDraft = call.body.wallet
    customer = None
    if draft.external_customer_id:
        external_id = parse_id(draft.external_customer_id, "external_customer_id")
        customer = await customers_store.lock(call.tx, call.org_id, external_id)
    if customer is None:
        raise InvalidInput("no such customer", details={"customer": ["customer_not_found"]})
    return await _open(call, customer, draft)


async def create_customer_wallet(call: Call) -> object:
    customer = await lock_customer(call.tx, call.org_id, call.path["external_id"])
    return await _open(call, customer, call.body.wallet)


async def show_wallet(call: Call) -> object:
    return await _one(call, await get_wallet(call.tx, call.org_id, _id(call)))


async def show_customer_wallet(call: Call) -> object:
    return await _one(call, await _by_code(call))


async def change_wallet(call: Call) -> object:
    return await _change(call, _id(call))


async def change_customer_wallet(call: Call) -> object:
    return await _change(call, (await _by_code(call)).id)


async def end_wallet(call: Call) -> object:
    return await _end(call, _id(call))


async def end_customer_wallet(call: Call) -> object:
    return await _end(call, (await _by_code(call)).id)


async def list_wallets(call: Call) -> object:
    query: WalletsQuery = call.query
    customer = None
    if query.external_customer_id is not None:
        customer = await get_customer(call.tx, call.org_id, query.external_customer_id)
    return await _list(call, query, customer, query.currency)


async def list_customer_wallets(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.path["external_id"])
    return await _list(call, call.query, customer, None)


async def _open(call: Call, customer: Customer, draft: WalletDraft) -> object:
    wallet = await open_wallet(call.tx, call.services.seams, customer=customer, draft=draft, now=call.now)
    return await _one(call, wallet)


async def _change(call: Call, wallet_id: UUID) -> object:
    wallet = await lock_wallet(call.tx, call.org_id, wallet_id)
    customer = await customers_store.lock_by_id(call.tx, call.org_id, wallet.customer_id)
    organization = await get_organization(call.tx, call.org_id)
    changed = await update_wallet(
        call.tx,
        call.services.seams.change_bus,
        wallet=wallet,
        changes=call.body.wallet,
        timezone=customer.timezone or organization.timezone,
        now=call.now,
    )
    return await _one(call, changed)


async def _end(call: Call, wallet_id: UUID) -> object:
    wallet = await lock_wallet(call.tx, call.org_id, wallet_id)
    ended = await terminate_wallet(call.tx, call.services.seams.change_bus, wallet=wallet, now=call.now)
    return await _one(call, ended)


async def _list(call: Call, query: PageQuery, customer: Customer | None, currency: str | None) -> object:
    wallets, total = await store.list_wallets(
        call.tx,
        call.org_id,
        customer_id=customer.id if customer else None,
        currency=currency,
        limit=query.per_page,
        offset=query.offset,
    )
    usage: dict[UUID, int] = {}
    for customer_id in {one.customer_id for one in wallets if one.status is WalletStatus.ACTIVE}:
        usage |= await _usage(call, customer_id)
    return {
        "wallets": [wallet_json(one, usage.get(one.id, 0), call.now) for one in wallets],
        "meta": page_meta(query, total),
    }


async def _one(call: Call, wallet: Wallet) -> object:
    usage = await _usage(call, wallet.customer_id)
    return {"wallet": wallet_json(wallet, usage.get(wallet.id, 0), call.now)}


async def _usage(call: Call, customer_id: UUID) -> dict[UUID, int]:
    return await usage_by_wallet(
        call.tx, call.services.seams, org_id=call.org_id, customer_id=customer_id, now=call.now
    )


async def _by_code(call: Call) -> Wallet:
    customer = await get_customer(call.tx, call.org_id, call.path["external_id"])
    return await get_wallet_by_code(call.tx, call.org_id, customer.id, call.path["code"])


def _id(call: Call) -> UUID:
    return from_text("wallet", call.path["id"], what="wallet")


_ID = "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e"
_SENT: dict[str, object] = {
    "external_customer_id": "cust_123",
    "name": "Prepaid",
    "rate_amount": "1.5",
    "currency": "USD",
    "granted_credits": "10.0",
}
_SHOWN: dict[str, object] = {
    "lago_id": _ID,
    "nozle_id": _ID,
    "external_customer_id": "cust_123",
    "status": "active",
    "currency": "USD",
    "name": "Prepaid",
    "code": "prepaid",
    "priority": 50,
    "rate_amount": "1.5",
    "credits_balance": "10.0",
    "balance_cents": 1500,
    "consumed_credits": "0.0",
    "ongoing_balance_cents": 1500,
    "ongoing_usage_balance_cents": 0,
    "credits_ongoing_balance": "10.0",
    "credits_ongoing_usage_balance": "0.0",
    "recurring_transaction_rules": [],
    "applies_to": {"fee_types": [], "billable_metric_codes": []},
}
_ONE = shape(wallet=ANY_OBJECT)
_MANY = shape(wallets=array(ANY_OBJECT), meta=PAGE_META)
_SHOW = Example(response={"wallet": _SHOWN})
_LIST = Example(response={"wallets": [_SHOWN], "meta": page_meta(PageQuery(), 1)})


def _endpoint(method: str, path: str, handler: Any, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        tag="Wallets",
        **{"reply_schema": _ONE, "errors": (404,), "example": _SHOW, **more},
    )


_CREATE: dict[str, Any] = {
    "body": WalletBody,
    "errors": (404, 409, 422),
    "idempotent": True,
    "ledger": True,
    "description": (
        "Granted credits are there at once; paid ones are invoiced, and there once that invoice is paid. A customer"
        " without a currency gets the wallet's."
    ),
    "example": Example(request={"wallet": _SENT}, response={"wallet": _SHOWN}),
}
_CHANGE: dict[str, Any] = {
    "body": WalletChangesBody,
    "errors": (404, 409, 422),
    "description": "What is not sent stays. Currency and rate are fixed.",
    "example": Example(
        request={"wallet": {"name": "Prepaid", "priority": 1}},
        response={"wallet": {**_SHOWN, "priority": 1}},
    ),
}
_END: dict[str, Any] = {
    "idempotent": True,
    "description": "It pays nothing any more, and what is left of it expires. Ending it again changes nothing.",
    "example": Example(response={"wallet": {**_SHOWN, "status": "terminated", "balance_cents": 0}}),
}
_OF_CUSTOMER = "/customers/{external_id}/wallets"

ENDPOINTS = (
    _endpoint("POST", "/wallets", create_wallet, "Open a wallet", **_CREATE),
    _endpoint(
        "GET",
        "/wallets",
        list_wallets,
        "List wallets",
        query=WalletsQuery,
        reply_schema=_MANY,
        example=_LIST,
    ),
    _endpoint("GET", "/wallets/{id}", show_wallet, "Get a wallet"),
    _endpoint("PUT", "/wallets/{id}", change_wallet, "Change a wallet", **_CHANGE),
    _endpoint("DELETE", "/wallets/{id}", end_wallet, "Terminate a wallet", **_END),
    _endpoint("POST", _OF_CUSTOMER, create_customer_wallet, "Open a wallet of a customer", **_CREATE),
    _endpoint(
        "GET",
        _OF_CUSTOMER,
        list_customer_wallets,
        "List a customer's wallets",
        query=PageQuery,
        reply_schema=_MANY,
        example=_LIST,
    ),
    _endpoint("GET", _OF_CUSTOMER + "/{code}", show_customer_wallet, "Get a customer's wallet by its code"),
    _endpoint(
        "PUT", _OF_CUSTOMER + "/{code}", change_customer_wallet, "Change a customer's wallet", **_CHANGE
    ),
    _endpoint(
        "DELETE", _OF_CUSTOMER + "/{code}", end_customer_wallet, "Terminate a customer's wallet", **_END
    ),
)
