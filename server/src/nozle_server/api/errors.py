"""The one table from kind of error to HTTP status, and the two shapes in which errors are written.

On seed and engine paths an error is `{"error": <sentence>, "code": <stable code>}`; on `/core` it has the
form of Lago's API, which its clients read: `{"status", "error": <reason phrase>, "code", "error_details"}`.
Neither repeats input.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from nozle_server.core import json
from nozle_server.core.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotPossible,
    NozleError,
    RuleBroken,
    Unavailable,
)

CORE_PREFIX = "/core/"


class Unreadable(InvalidInput):
    """The body, the query or the path cannot even be read; 400 on every path, Core's included."""

    default_code = "malformed_json"


class HttpError(NozleError):
    """What only HTTP knows of: a method, a media type, a size, a deadline. Carries its own status."""

    default_code = "http_error"

    def __init__(
        self, status: int, message: str, *, code: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.headers = dict(headers or {})


class Down(Unavailable):
    """Unavailable, from an endpoint whose answer says so in members of its own (`Endpoint.when_down`)."""

    def __init__(self, cause: Unavailable, members: Mapping[str, object]) -> None:
        super().__init__(cause.message, code=cause.code)
        self.members = members


# Searched in this order, so a kind stands before the one it refines. Core differs in the last column.
_STATUSES: Sequence[tuple[type[NozleError], int, int]] = (
    (Unreadable, 400, 400),
    (InvalidInput, 400, 422),
    (NotAuthenticated, 401, 401),
    (NotAllowed, 403, 403),
    (NotFound, 404, 404),
    (Conflict, 409, 409),
    (NotPossible, 422, 405),
    (RuleBroken, 422, 422),
    (Unavailable, 503, 503),
)


def is_core(path: str) -> bool:
    """Whether errors on this path are written in Core's form."""
    return path.startswith(CORE_PREFIX)


def status_of(error: NozleError, *, core: bool) -> int:
    if isinstance(error, HttpError):
        return error.status
    if core and isinstance(error, Conflict) and error.details:
        return 422  # a value that is taken is one that does not validate, to Lago's clients
    for kind, seed_status, core_status in _STATUSES:
        if isinstance(error, kind):
            return core_status if core else seed_status
    raise AssertionError(f"{type(error).__name__} is missing in the table of errors")


def headers_of(error: NozleError) -> Mapping[str, str]:
    if isinstance(error, Unavailable):
        return {"retry-after": "1"}
    if isinstance(error, NotAuthenticated):
        return {"www-authenticate": "Bearer"}
    return error.headers if isinstance(error, HttpError) else {}


def render(error: NozleError, *, core: bool) -> bytes:
    """The body of an error's answer."""
    form: dict[str, object] = _core_form(error) if core else {"error": error.message, "code": error.code}
    return json.dumps({**error.members, **form} if isinstance(error, Down) else form)


def _core_form(error: NozleError) -> dict[str, object]:
    status = status_of(error, core=True)
    form: dict[str, object] = {"status": status, "error": HTTPStatus(status).phrase}
    if status == HTTPStatus.UNAUTHORIZED:
        return form
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and (error.details or isinstance(error, InvalidInput)):
        return form | {
            "code": "validation_errors",
            "error_details": error.details or {"base": [error.code]},
        }
    form["code"] = error.code
    return form | {"error_details": error.details} if error.details else form


INTERNAL_ERROR = HttpError(500, "internal error", code="internal_error")
# Lago's clients join paths to their URL as browsers do: without its last slash they lose `/core` and end up beside it.
CORE_HINT = "what Lago's clients call is below /core/ (their URL ends with that slash)"
NO_SUCH_ENDPOINT = NotFound(f"no such endpoint; {CORE_HINT}", code="endpoint_not_found")
