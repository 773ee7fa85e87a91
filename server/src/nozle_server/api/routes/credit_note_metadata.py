"""A credit note's metadata by itself, in Core's form: replace, merge, clear, take one key away."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.routes.credit_notes import check_metadata
from nozle_server.api.shapes import ANY_OBJECT, optional, shape
from nozle_server.core.errors import NotFound
from nozle_server.core.ids import from_text
from nozle_server.invoicing.credit_notes.model import CreditNote
from nozle_server.invoicing.credit_notes.operations import lock_note, update_credit_note


class CreditNoteMetadataBody(msgspec.Struct):
    metadata: dict[str, Any]


async def replace_metadata(call: Call) -> object:
    return await _put(call, await _lock(call), call.body.metadata)


async def merge_metadata(call: Call) -> object:
    note = await _lock(call)
    return await _put(call, note, {**note.metadata, **call.body.metadata})


async def clear_metadata(call: Call) -> object:
    return await _put(call, await _lock(call), {})


async def delete_metadata_key(call: Call) -> object:
    note = await _lock(call)
    if call.path["key"] not in note.metadata:
        raise NotFound("there is no such metadata", code="metadata_not_found")
    rest = {name: value for name, value in note.metadata.items() if name != call.path["key"]}
    return await _put(call, note, rest)


async def _lock(call: Call) -> CreditNote:
    return await lock_note(call.tx, call.org_id, from_text("cn", call.path["id"], what="credit note"))


async def _put(call: Call, note: CreditNote, metadata: Mapping[str, Any]) -> object:
    changed = await update_credit_note(
        call.tx,
        org_id=call.org_id,
        note_id=note.id,
        refund_status=None,
        metadata=check_metadata(dict(metadata)),
        now=call.now,
    )
    return {"metadata": changed.metadata or None}


_SENT = {"metadata": {"ticket": "4711"}}
_REPLY = shape(metadata=optional(ANY_OBJECT))
_PATH = "/credit_notes/{id}/metadata"

ENDPOINTS = tuple(
    Endpoint(
        method=method,
        path=path,
        handler=handler,
        scope=Scope.SECRET,
        mounts=CORE,
        summary=summary,
        tag="Credit notes",
        body=CreditNoteMetadataBody if method in ("POST", "PATCH") else None,
        reply_schema=_REPLY,
        errors=(404, 422),
        example=Example(
            request=_SENT if method in ("POST", "PATCH") else None,
            response=_SENT if method in ("POST", "PATCH") else {"metadata": None},
        ),
    )
    for method, path, handler, summary in (
        ("POST", _PATH, replace_metadata, "Replace a credit note's metadata"),
        ("PATCH", _PATH, merge_metadata, "Add to a credit note's metadata"),
        ("DELETE", _PATH, clear_metadata, "Delete a credit note's metadata"),
        ("DELETE", _PATH + "/{key}", delete_metadata_key, "Delete one key of a credit note's metadata"),
    )
)
