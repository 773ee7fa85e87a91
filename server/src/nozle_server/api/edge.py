"""What happens around every request, whatever it asks for: its id, cross-origin headers, errors, log line.

Falcon middleware; the one component there is, because each costs every request.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import falcon
import structlog
from falcon.asgi import Request, Response

from nozle_server.api import errors
from nozle_server.api.cors import Cors
from nozle_server.api.errors import CORE_HINT, INTERNAL_ERROR, NO_SUCH_ENDPOINT, HttpError
from nozle_server.api.incoming import KEY, Incoming, check_path
from nozle_server.core.errors import NozleError
from nozle_server.infra.logging import request_id

if TYPE_CHECKING:
    from nozle_server.api.metrics import Metrics

# What the log and the metrics call requests that reached no route: their paths are anybody's text.
_NO_ROUTE = "unrouted"


class Edge:
    """Middleware around all routes, and the error handler of the application."""

    def __init__(self, cors: Cors, metrics: Metrics) -> None:
        self._cors = cors
        self._metrics = metrics
        # Bound once, to the log as it is configured now: binding costs more than the line.
        self._log = structlog.get_logger().bind()

    async def process_request(self, req: Request, _resp: Response) -> None:
        incoming: Incoming = req.scope[KEY]
        request_id.set(incoming.request_id)
        check_path(incoming.path)

    async def process_response(
        self, req: Request, resp: Response, _resource: object, _req_succeeded: bool
    ) -> None:
        incoming: Incoming = req.scope[KEY]
        resp.set_header("x-request-id", incoming.request_id)
        for name, value in self._cors.headers(incoming.headers.get("origin")).items():
            resp.set_header(name, value)
        seconds = time.perf_counter() - incoming.started
        route, status = incoming.route or _NO_ROUTE, resp.status_code
        self._metrics.observe(f"{req.method} {route}", status, seconds)
        self._log.info(
            "request",
            method=req.method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 3),
            org_id=incoming.org_id,
        )

    async def write_error(
        self, req: Request, resp: Response, error: Exception, _params: dict[str, Any]
    ) -> None:
        """Turn whatever stopped a request into an answer of the right status and form."""
        refusal = _as_refusal(error)
        if refusal is INTERNAL_ERROR:
            self._log.error("unexpected exception", route=req.scope[KEY].route, exc_info=error)
        core = errors.is_core(req.path)
        resp.status = errors.status_of(refusal, core=core)
        resp.data = errors.render(refusal, core=core)
        resp.content_type = "application/json"
        for name, value in errors.headers_of(refusal).items():
            resp.set_header(name, value)


def _as_refusal(error: Exception) -> NozleError:
    match error:
        case NozleError():
            return error
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
            return INTERNAL_ERROR
