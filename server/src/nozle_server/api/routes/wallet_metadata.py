"""A wallet's metadata by itself, in Core's form: replace, merge, clear, take one key away."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.shapes import ANY_OBJECT, optional, shape
from nozle_server.core.errors import NotFound
from nozle_server.core.ids import from_text
from nozle_server.customers.queries import get_customer
from nozle_server.wallets.drafts import WalletChanges
from nozle_server.wallets.model import Wallet
from nozle_server.wallets.operations.wallets import update_wallet
from nozle_server.wallets.queries import get_wallet_by_code, lock_wallet


class WalletMetadataBody(msgspec.Struct):
    metadata: dict[str, Any]


async def replace_metadata(call: Call) -> object:
    return await _put(call, await _lock(call), call.body.metadata)


async def merge_metadata(call: Call) -> object:
    wallet = await _lock(call)
    return await _put(call, wallet, {**(wallet.metadata or {}), **call.body.metadata})


async def clear_metadata(call: Call) -> object:
    return await _put(call, await _lock(call), None)


async def delete_metadata_key(call: Call) -> object:
    wallet = await _lock(call)
    if wallet.metadata is None:
        raise NotFound("the wallet has no metadata", code="metadata_not_found")
    rest = {name: value for name, value in wallet.metadata.items() if name != call.path["key"]}
    return await _put(call, wallet, rest)


async def _lock(call: Call) -> Wallet:
    if "id" in call.path:
        wallet_id: UUID = from_text("wallet", call.path["id"], what="wallet")
    else:
        customer = await get_customer(call.tx, call.org_id, call.path["external_id"])
        wallet_id = (await get_wallet_by_code(call.tx, call.org_id, customer.id, call.path["code"])).id
    return await lock_wallet(call.tx, call.org_id, wallet_id)


async def _put(call: Call, wallet: Wallet, metadata: Mapping[str, Any] | None) -> object:
    changed = await update_wallet(
        call.tx,
        call.services.seams.change_bus,
        wallet=wallet,
        changes=WalletChanges(metadata=None if metadata is None else dict(metadata)),
        timezone="UTC",  # no rule changes with it
        now=call.now,
    )
    return {"metadata": changed.metadata}


_SHOWN: dict[str, object] = {"metadata": {"team": "research"}}
_BODY: dict[str, Any] = {"body": WalletMetadataBody, "example": Example(request=_SHOWN, response=_SHOWN)}

ENDPOINTS = tuple(
    Endpoint(
        method=method,
        path=of_wallet + rest,
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary + whose,
        tag="Wallets",
        reply_schema=shape(metadata=optional(ANY_OBJECT)),
        errors=(404, 422),
        **{"example": Example(response={"metadata": None}), **more},
    )
    for of_wallet, whose in (
        ("/wallets/{id}", ""),
        ("/customers/{external_id}/wallets/{code}", ", by customer and code"),
    )
    for method, rest, handler, summary, more in (
        ("POST", "/metadata", replace_metadata, "Replace a wallet's metadata", _BODY),
        ("PATCH", "/metadata", merge_metadata, "Merge into a wallet's metadata", _BODY),
        ("DELETE", "/metadata", clear_metadata, "Clear a wallet's metadata", {}),
        ("DELETE", "/metadata/{key}", delete_metadata_key, "Take a key out of a wallet's metadata", {}),
    )
)
