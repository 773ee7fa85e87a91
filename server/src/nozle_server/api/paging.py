"""Pages: Core's numbered ones (`page`, `per_page`, `meta`) and the cursors of our own lists."""

import base64
import binascii
from typing import Annotated
from uuid import UUID

import msgspec

from nozle_server.core.errors import InvalidInput

MAX_PAGE = 1_000_000
Page = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)]
PerPage = Annotated[int, msgspec.Meta(ge=1, le=100)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=100)]


class PageQuery(msgspec.Struct):
    """Which page of a Core list."""

    page: Page = 1
    per_page: PerPage = 20

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page


def page_meta(query: PageQuery, total: int) -> dict[str, object]:
    """Core's `meta` for a page."""
    pages = -(-total // query.per_page)
    return {
        "current_page": query.page,
        "next_page": query.page + 1 if query.page < pages else None,
        "prev_page": query.page - 1 if query.page > 1 else None,
        "total_pages": pages,
        "total_count": total,
    }


def to_cursor(place: int) -> str:
    """Where the next page starts, as opaque text."""
    return _encode(str(place))


def from_cursor(cursor: str | None) -> int | None:
    """The place a cursor names; InvalidInput for text that is none of ours."""
    if cursor is None:
        return None
    place = _decode(cursor)
    if not (place.isascii() and place.isdigit() and len(place) <= 18):
        raise _not_ours()
    return int(place)


def to_id_cursor(last: UUID) -> str:
    """The same for lists in order of id: the last one that was shown."""
    return _encode(last.hex)


def from_id_cursor(cursor: str | None) -> UUID | None:
    """The id a cursor names; InvalidInput for text that is none of ours."""
    if cursor is None:
        return None
    try:
        return UUID(_decode(cursor))
    except ValueError:
        raise _not_ours() from None


def _encode(place: str) -> str:
    return base64.urlsafe_b64encode(f"v1:{place}".encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        if len(cursor) > 512:
            raise ValueError(cursor)
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (ValueError, binascii.Error):
        raise _not_ours() from None
    version, _, place = text.partition(":")
    if version != "v1":
        raise _not_ours()
    return place


def _not_ours() -> InvalidInput:
    return InvalidInput("the cursor is not one of ours", details={"cursor": ["value_is_invalid"]})
