"""Names of channels (contract Decision 9). There are two kinds, and no others."""

from urllib.parse import quote, unquote
from uuid import UUID

from nozle_server.core.errors import InvalidInput
from nozle_server.core.text import parse_id
from nozle_server.realtime.model import Channel

MAX_NAME_BYTES = 1024


def name_of(channel: Channel) -> str:
    """`customer:{workspace_id}:{customer_id}` with the id percent-encoded, or `workspace:{workspace_id}:entitlements`."""
    if channel.customer is None:
        return f"workspace:{channel.org_id}:entitlements"
    return f"customer:{channel.org_id}:{quote(channel.customer, safe='')}"


def parse_name(name: str) -> Channel | None:
    """The channel that `name_of` calls so; None for every other text, other spellings of the same included."""
    if len(name) > MAX_NAME_BYTES or not name.isascii() or name.count(":") != 2:
        return None
    kind, org_text, rest = name.split(":")
    try:
        org_id = UUID(org_text)
        customer = None if kind == "workspace" else parse_id(unquote(rest, errors="strict"), "customer_id")
    except (ValueError, InvalidInput):
        return None
    channel = Channel(org_id, customer)
    return channel if name_of(channel) == name else None
