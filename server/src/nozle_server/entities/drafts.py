"""What a caller writes to make or change an entity: a complete snapshot. Its name and metadata are cleared when left
out; its parent and pool policy, which say who spends what, stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core import json
from nozle_server.core.errors import InvalidInput
from nozle_server.core.text import parse_id, parse_text
from nozle_server.entities.model import EntityStatus, PoolPolicy

MOST_AT_ONCE = 500
MAX_METADATA_BYTES = 16 * 1024
UNREACHABLE = (".", "..", "bulk-upsert")
"""What no path can name: dot segments are nobody's, and `/entities/bulk-upsert` is an endpoint."""


class EntityDraft(msgspec.Struct, kw_only=True):
    """An entity as it is to be. Status `deleted` deletes it, and then nothing else is read."""

    status: EntityStatus
    name: str | None = None
    metadata: dict[str, Any] | None = None
    parent_entity_id: str | UnsetType | None = UNSET
    pool_policy: PoolPolicy | None = None


class NamedEntityDraft(EntityDraft, kw_only=True):
    """One of several entities, with the id it is known by."""

    external_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A draft that was read. `parent` is an external id, None for no parent, or UNSET as `pool_policy` None: it stays."""

    external_id: str
    status: EntityStatus
    name: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent: str | UnsetType | None = UNSET
    pool_policy: PoolPolicy | None = None


def to_snapshot(external_id: str, draft: EntityDraft, place: str = "") -> Snapshot:
    """InvalidInput names the field, after `place`."""
    parent = draft.parent_entity_id
    return Snapshot(
        external_id=parse_entity_id(external_id, f"{place}external_id"),
        status=draft.status,
        name=parse_text(draft.name, f"{place}name"),
        metadata=_metadata(draft.metadata or {}, f"{place}metadata"),
        parent=parse_id(parent, f"{place}parent_entity_id") if isinstance(parent, str) else parent,
        pool_policy=draft.pool_policy,
    )


def to_snapshots(drafts: Sequence[NamedEntityDraft]) -> tuple[Snapshot, ...]:
    """1 to 500, each of another entity."""
    if not 1 <= len(drafts) <= MOST_AT_ONCE:
        raise _invalid("entities", "invalid_count", f"must be 1 to {MOST_AT_ONCE}")
    snapshots = tuple(
        to_snapshot(one.external_id, one, f"entities[{place}].") for place, one in enumerate(drafts)
    )
    if len({one.external_id for one in snapshots}) != len(snapshots):
        raise _invalid("entities", "value_is_duplicated", "name an entity twice")
    return snapshots


def parse_entity_id(value: object, name: str) -> str:
    """As `parse_id`, for an id that will stand in a path."""
    text = parse_id(value, name)
    if text in UNREACHABLE:
        raise _invalid(name, "value_is_reserved", "is a word that paths keep for themselves")
    return text


def _metadata(value: dict[str, Any], name: str) -> dict[str, Any]:
    if len(json.dumps(value)) > MAX_METADATA_BYTES:
        raise _invalid(name, "value_is_too_long", f"is longer than {MAX_METADATA_BYTES} bytes of JSON")
    return value


def _invalid(name: str, code: str, what: str) -> InvalidInput:
    return InvalidInput(f"{name} {what}", details={name: [code]})
