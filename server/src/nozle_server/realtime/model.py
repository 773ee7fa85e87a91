"""Channels, what is published in them, and where a client stands in their history."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

REALTIME_PUBLISHED = "realtime.published"
"""The change by which processes hear of a publication: the subject is the channel's name, the payload `epoch`,
`position` (of the first) and `data` (a list)."""

REALTIME_OPENED = "realtime.opened"
"""The change by which the process that tells a Centrifugo hears where somebody may be listening: the payload has
`channels` and `until`."""


@dataclass(frozen=True, slots=True)
class Channel:
    """`customer` is the merchant's id of the customer; None: the channel of the whole organization."""

    org_id: UUID
    customer: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a channel's history. Positions of different epochs cannot be compared."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Publication:
    """`data` is JSON text, encoded once for all readers; offsets of a channel are dense and begin with 1."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says: who connects, until when, and which channels it may join."""

    subject: str
    org_id: UUID
    key_id: UUID
    channels: tuple[str, ...]
    expires_at: datetime
    info: Mapping[str, Any]
