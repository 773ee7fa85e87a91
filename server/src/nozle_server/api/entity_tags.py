"""Entity tags (RFC 9110, 8.8.3): answers that did not change are not sent again."""

import hashlib

from nozle_server.api.endpoint import Call, Reply
from nozle_server.core import json

REVALIDATE = "private, no-cache"
"""A browser may keep the answer, and asks each time whether it still stands."""


def tagged(call: Call, document: object, *, cache_control: str = REVALIDATE) -> Reply:
    """The document with a strong tag of its bytes, which are the same in every process; 304 without a body to who names
    the tag in If-None-Match."""
    body = json.dumps(document)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": cache_control}
    if _names(call.headers.get("if-none-match"), tag):
        return Reply(raw=b"", status=304, headers=headers)
    return Reply(raw=body, headers=headers)


def _names(header: str | None, tag: str) -> bool:
    if header is None:
        return False
    named = [one.strip().removeprefix("W/") for one in header.split(",")]
    return tag in named or named == ["*"]
