"""What happens around every request, whatever it asks for and whoever answers: its id, cross-origin headers, log line.

Falcon middleware, and the same for what goes without Falcon; the one component there is, because each costs every request.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import falcon
from falcon.asgi import Request, Response

from nozle_server.api.answer import Answer, from_error
from nozle_server.api.cors import Cors
from nozle_server.api.errors import CORE_HINT, NO_SUCH_ENDPOINT, HttpError
from nozle_server.api.incoming import KEY, Incoming, check_path
from nozle_server.infra.logging import request_id, request_lines

if TYPE_CHECKING:
    from uuid import UUID

    from nozle_server.api.metrics import Metrics

# What the log and the metrics call requests that reached no route: their paths are anybody's text.
_NO_ROUTE = "unrouted"


class Edge:
    """The beginning and the end of every request."""

    def __init__(self, cors: Cors, metrics: Metrics) -> None:
        self._cors = cors
        self._metrics = metrics
        self._lines = request_lines()

    def begin(self, incoming: Incoming) -> None:
        """Give what is logged from here on the request's id."""
        request_id.set(incoming.request_id)

    def finish(self, incoming: Incoming, answer: Answer) -> dict[str, str]:
        """All headers of the answer but its length, in the order in which they go out; counts it and logs it."""
        headers = {"content-type": answer.media_type} if answer.media_type else {}
        headers.update(answer.headers)
        headers["x-request-id"] = incoming.request_id
        headers.update(self._cors.headers(incoming.headers.get("origin")))
        seconds = time.perf_counter() - incoming.started
        route = incoming.route or _NO_ROUTE
        self._metrics.observe(f"{incoming.method} {route}", answer.status, seconds)
        if self._lines is not None:
            self._lines.write_request(
                incoming.request_id,
                method=incoming.method,
                route=route,
                status=answer.status,
                seconds=seconds,
                org_id=incoming.org_id,
            )
        return headers

    def finish_again(self, route: str, status: int, count: int, seconds: float, org_id: UUID | None) -> None:
        """Count and log answers that were given again (`recall.py`), which took so long together."""
        self._metrics.observe_many(route, status, count, seconds)
        if self._lines is not None:
            self._lines.write_requests(
                route=route, status=status, count=count, seconds=seconds, org_id=org_id
            )


class FalconEdge:
    """`Edge` as Falcon's middleware. Whoever answers leaves the answer at the `Incoming`."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def process_request(self, req: Request, _resp: Response) -> None:
        incoming: Incoming = req.scope[KEY]
        self._edge.begin(incoming)
        check_path(incoming.path)

    async def process_response(
        self, req: Request, resp: Response, _resource: object, _req_succeeded: bool
    ) -> None:
        incoming: Incoming = req.scope[KEY]
        answer = incoming.answer
        assert answer is not None, "every responder and every error handler leaves one"
        resp.status = answer.status
        resp.data = answer.body
        resp.set_headers(self._edge.finish(incoming, answer))

    async def write_error(
        self, req: Request, _resp: Response, error: Exception, _params: dict[str, Any]
    ) -> None:
        """Answer what never reached an endpoint."""
        incoming: Incoming = req.scope[KEY]
        incoming.answer = from_error(_in_our_words(error), incoming)


def _in_our_words(error: Exception) -> Exception:
    match error:
        case falcon.HTTPMethodNotAllowed():
            return HttpError(
                405,
                f"method not allowed; {CORE_HINT}",
                code="not_allowed",
                headers=dict(error.headers or {}),
            )
        case falcon.HTTPNotFound():
            return NO_SUCH_ENDPOINT
        case falcon.HTTPError():
            return HttpError(error.status_code, "bad request", code="bad_request")
        case _:
            return error
