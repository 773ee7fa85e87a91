"""What goes out: an answer, already encoded, and how whatever stops a request becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import structlog

from nozle_server.api import errors
from nozle_server.api.errors import INTERNAL_ERROR
from nozle_server.core.errors import NozleError
from nozle_server.core.standing import Standing

if TYPE_CHECKING:
    from nozle_server.api.incoming import Incoming

JSON = "application/json"
_NO_HEADERS: Mapping[str, str] = {}


class Validity(NamedTuple):
    """How long the same request has the same answer: while all of these stand, and before `ends_at` (None: no matter when)."""

    standings: tuple[Standing, ...]
    ends_at: datetime | None


class Answer(NamedTuple):
    """Status, body and headers, whose names are in lower case. Encoded: what cannot be encoded must not commit. `validity`
    None: every request is asked anew."""

    status: int
    body: bytes
    headers: Mapping[str, str] = _NO_HEADERS
    media_type: str = JSON
    validity: Validity | None = None


def from_error(error: Exception, incoming: Incoming) -> Answer:
    """The answer that tells of what stopped a request, of the right status and form."""
    if isinstance(error, NozleError):
        refusal = error
    else:
        refusal = INTERNAL_ERROR
        structlog.get_logger().error("unexpected exception", route=incoming.route, exc_info=error)
    core = errors.is_core(incoming.path)
    return Answer(
        errors.status_of(refusal, core=core),
        errors.render(refusal, core=core),
        errors.headers_of(refusal),
    )
