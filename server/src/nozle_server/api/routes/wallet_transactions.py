"""What moved a wallet's money, in Core's form, and which transaction paid for which."""

from typing import Any
from uuid import UUID

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.ids import from_text
from nozle_server.core.money import to_minor
from nozle_server.core.numbers import to_decimal_text
from nozle_server.core.rounding import to_cents
from nozle_server.wallets import transaction_store
from nozle_server.wallets.conversion import shown_credits, spendable_cents
from nozle_server.wallets.drafts import WalletTransactionDraft
from nozle_server.wallets.model import (
    Direction,
    Funding,
    Reason,
    Status,
    Wallet,
    WalletTransaction,
)
from nozle_server.wallets.queries import get_transaction, get_wallet, list_fundings, lock_wallet
from nozle_server.workflows.top_up_wallet import add_transactions


class WalletTransactionBody(msgspec.Struct):
    wallet_transaction: WalletTransactionDraft


class WalletTransactionsQuery(PageQuery):
    status: Status | None = None
    transaction_type: Direction | None = None
    transaction_status: Reason | None = None


def transaction_json(transaction: WalletTransaction, wallet: Wallet) -> dict[str, object]:
    remaining = transaction.remaining
    return {
        "lago_id": transaction.id,
        "nozle_id": transaction.id,
        "lago_wallet_id": transaction.wallet_id,
        "lago_invoice_id": transaction.invoice_id,
        "lago_credit_note_id": transaction.credit_note_id,
        "lago_voided_invoice_id": transaction.voided_invoice_id,
        "status": transaction.status,
        "source": transaction.source,
        "transaction_status": transaction.reason,
        "transaction_type": transaction.direction,
        "amount": to_decimal_text(transaction.amount),
        "credit_amount": to_decimal_text(shown_credits(transaction.amount, wallet.rate_amount)),
        "remaining_amount_cents": None if remaining is None else spendable_cents(remaining, wallet.currency),
        "remaining_credit_amount": (
            None if remaining is None else to_decimal_text(shown_credits(remaining, wallet.rate_amount))
        ),
        "priority": transaction.priority,
        "settled_at": transaction.settled_at,
        "failed_at": transaction.failed_at,
        "created_at": transaction.created_at,
        "invoice_requires_successful_payment": transaction.invoice_requires_successful_payment,
        "metadata": transaction.metadata,
        "name": transaction.name,
    }


async def create_transactions(call: Call) -> object:
    draft: WalletTransactionDraft = call.body.wallet_transaction
    try:
        wallet_id = from_text("wallet", draft.wallet_id, what="wallet")
        wallet = await lock_wallet(call.tx, call.org_id, wallet_id)
    except NotFound:
        raise InvalidInput("no such wallet", details={"wallet_id": ["wallet_not_found"]}) from None
    made = await add_transactions(call.tx, call.services.seams, wallet=wallet, draft=draft, now=call.now)
    return {"wallet_transactions": [transaction_json(one, wallet) for one in made]}


async def show_transaction(call: Call) -> object:
    transaction = await get_transaction(call.tx, call.org_id, _transaction_id(call))
    wallet = await get_wallet(call.tx, call.org_id, transaction.wallet_id)
    return {"wallet_transaction": transaction_json(transaction, wallet)}


async def list_transactions(call: Call) -> object:
    query: WalletTransactionsQuery = call.query
    wallet = await get_wallet(call.tx, call.org_id, from_text("wallet", call.path["id"], what="wallet"))
    found, total = await transaction_store.list_of_wallet(
        call.tx,
        call.org_id,
        wallet.id,
        status=query.status,
        direction=query.transaction_type,
        reason=query.transaction_status,
        limit=query.per_page,
        offset=query.offset,
    )
    return {
        "wallet_transactions": [transaction_json(one, wallet) for one in found],
        "meta": page_meta(query, total),
    }


async def list_consumptions(call: Call) -> object:
    return await _fundings(call, Direction.INBOUND, "wallet_transaction_consumptions")


async def list_transaction_fundings(call: Call) -> object:
    return await _fundings(call, Direction.OUTBOUND, "wallet_transaction_fundings")


async def _fundings(call: Call, direction: Direction, name: str) -> object:
    query: PageQuery = call.query
    transaction_id = _transaction_id(call)
    found, total = await list_fundings(
        call.tx, call.org_id, transaction_id, direction, limit=query.per_page, offset=query.offset
    )
    transaction = await get_transaction(call.tx, call.org_id, transaction_id)
    wallet = await get_wallet(call.tx, call.org_id, transaction.wallet_id)
    return {name: [_funding_json(one, wallet) for one in found], "meta": page_meta(query, total)}


def _funding_json(funding: Funding, wallet: Wallet) -> dict[str, object]:
    return {
        "lago_id": funding.id,
        "nozle_id": funding.id,
        "amount_cents": to_cents(to_minor(funding.amount, wallet.currency)),
        "credit_amount": to_decimal_text(shown_credits(funding.amount, wallet.rate_amount)),
        "created_at": funding.created_at,
        "wallet_transaction": transaction_json(funding.other, wallet),
    }


def _transaction_id(call: Call) -> UUID:
    return from_text("wtx", call.path["id"], what="wallet transaction")


_ID = "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0f"
_WALLET_ID = "019a2f6c-8b7e-7c3a-9d1e-5f4a3b2c1d0e"
_SHOWN: dict[str, object] = {
    "lago_id": _ID,
    "nozle_id": _ID,
    "lago_wallet_id": _WALLET_ID,
    "lago_invoice_id": None,
    "status": "settled",
    "source": "manual",
    "transaction_status": "granted",
    "transaction_type": "inbound",
    "amount": "15.0",
    "credit_amount": "10.0",
    "remaining_amount_cents": 1500,
    "remaining_credit_amount": "10.0",
    "priority": 50,
    "created_at": "2026-01-15T10:30:00Z",
    "settled_at": "2026-01-15T10:30:00Z",
    "metadata": [],
    "name": "Welcome",
}
_DRAWN: dict[str, object] = {
    "lago_id": _ID,
    "nozle_id": _ID,
    "amount_cents": 500,
    "credit_amount": "5.0",
    "created_at": "2026-01-15T10:30:00Z",
    "wallet_transaction": _SHOWN,
}
_META = page_meta(PageQuery(), 1)


def _endpoint(method: str, path: str, handler: Any, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        tag="Wallets",
        **{"errors": (404,), **more},
    )


ENDPOINTS = (
    _endpoint(
        "POST",
        "/wallet_transactions",
        create_transactions,
        "Buy, grant or void credits of a wallet",
        description=(
            "One transaction each for `paid_credits`, `granted_credits` and `voided_credits`. What is bought is pending"
            " until its invoice is paid."
        ),
        body=WalletTransactionBody,
        idempotent=True,
        ledger=True,
        errors=(422,),
        reply_schema=shape(wallet_transactions=array(ANY_OBJECT)),
        example=Example(
            request={
                "wallet_transaction": {"wallet_id": _WALLET_ID, "granted_credits": "10.0", "name": "Welcome"}
            },
            response={"wallet_transactions": [_SHOWN]},
        ),
    ),
    _endpoint(
        "GET",
        "/wallet_transactions/{id}",
        show_transaction,
        "Get a wallet transaction",
        reply_schema=shape(wallet_transaction=ANY_OBJECT),
        example=Example(response={"wallet_transaction": _SHOWN}),
    ),
    _endpoint(
        "GET",
        "/wallet_transactions/{id}/consumptions",
        list_consumptions,
        "List what an inbound transaction paid for",
        query=PageQuery,
        reply_schema=shape(wallet_transaction_consumptions=array(ANY_OBJECT), meta=PAGE_META),
        example=Example(response={"wallet_transaction_consumptions": [_DRAWN], "meta": _META}),
    ),
    _endpoint(
        "GET",
        "/wallet_transactions/{id}/fundings",
        list_transaction_fundings,
        "List what paid for an outbound transaction",
        query=PageQuery,
        reply_schema=shape(wallet_transaction_fundings=array(ANY_OBJECT), meta=PAGE_META),
        example=Example(response={"wallet_transaction_fundings": [_DRAWN], "meta": _META}),
    ),
    _endpoint(
        "GET",
        "/wallets/{id}/wallet_transactions",
        list_transactions,
        "List a wallet's transactions",
        query=WalletTransactionsQuery,
        reply_schema=shape(wallet_transactions=array(ANY_OBJECT), meta=PAGE_META),
        example=Example(response={"wallet_transactions": [_SHOWN], "meta": _META}),
    ),
)
