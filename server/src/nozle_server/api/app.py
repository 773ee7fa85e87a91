"""The application: every endpoint of the table, mounted on Falcon.

Falcon routes and speaks ASGI, and gets to see no more of a request than that takes. It routes on the path as
it was sent, still percent-encoded, so that `%2F` in an id does not split a segment; body and query string are
read by our own strict readers (`pipeline.py`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import falcon.asgi
from falcon.asgi import Request, Response

from nozle_server.api.answer import Answer
from nozle_server.api.cors import Cors
from nozle_server.api.edge import Edge, FalconEdge
from nozle_server.api.endpoint import Endpoint
from nozle_server.api.incoming import KEY, Incoming, Receive, Scope, Send
from nozle_server.api.lane import Lane
from nozle_server.api.pipeline import Pipeline
from nozle_server.api.recall import BYTES_A_CUSTOMER
from nozle_server.api.table import ENDPOINTS
from nozle_server.api.table_rules import check_table, parameter_names
from nozle_server.api.web_socket import WebSocket

if TYPE_CHECKING:
    from nozle_server.bootstrap import Services


def build_app(services: Services, endpoints: Sequence[Endpoint] = ENDPOINTS) -> Application:
    """Mount the endpoints; fails when the table contradicts itself. The log must be configured before."""
    check_table(endpoints)
    cors = Cors(services.settings.cors_allowed_origins)
    edge = Edge(cors, services.metrics)
    falcon_edge = FalconEdge(edge)
    router = falcon.asgi.App(middleware=[falcon_edge])
    router.add_error_handler(Exception, falcon_edge.write_error)
    router.add_error_handler(falcon.HTTPError, falcon_edge.write_error)
    lane = Lane(edge, services.clock, services.settings.cached_customers * BYTES_A_CUSTOMER)
    for template, resource in _resources(services, endpoints, cors, lane).items():
        router.add_route(template, resource)
    origins = None if cors.allows_any else services.settings.cors_allowed_origins
    realtime = services.realtime
    web_socket = (
        partial(WebSocket, realtime.gate, realtime.hub, services.clock, origins) if realtime.hub else None
    )
    return Application(router, lane if services.settings.lane else None, web_socket)


class Application:
    """Between the server and Falcon: keeps body and query to ourselves, hands on the raw path.

    `lane` is for the server, which may answer by it what does not need all this; `web_socket` makes what speaks on a
    connection that has become one, given the set of all connections.
    """

    def __init__(
        self,
        router: falcon.asgi.App[Request, Response],
        lane: Lane | None,
        web_socket: Callable[[set[Any]], WebSocket] | None = None,
    ) -> None:
        self._router = router
        self.lane = lane
        self.web_socket = web_socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            incoming = Incoming.from_asgi(scope, receive)
            scope[KEY] = incoming
            scope["path"] = incoming.path
            scope["query_string"] = b""
            receive = _no_body
        await self._router(scope, receive, send)  # type: ignore[arg-type]


async def _no_body() -> dict[str, Any]:
    # Falcon waits for a first message before it routes; a caller who sends its body slowly would hold it up.
    return {"type": "http.request", "body": b"", "more_body": False}


class _Resource:
    """What Falcon calls for one path: a responder for each method, and the answer to preflights."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._methods = {"OPTIONS"}

    def add(self, method: str, pipeline: Pipeline) -> None:
        methods = (method, "HEAD") if method == "GET" else (method,)
        for name in methods:
            setattr(self, f"on_{name.lower()}", _responder(pipeline))
        self._methods.update(methods)

    async def on_options(self, req: Request, _resp: Response, **_parameters: str) -> None:
        """Answer a browser's preflight, which carries no key."""
        incoming: Incoming = req.scope[KEY]
        incoming.route = "preflight"
        headers = {"allow": ", ".join(sorted(self._methods))}
        headers.update(self._cors.preflight_headers(incoming.headers.get("origin")))
        incoming.answer = Answer(204, b"", headers, media_type="")


def _responder(pipeline: Pipeline) -> Callable[..., Awaitable[None]]:
    async def respond(req: Request, _resp: Response, **parameters: str) -> None:
        incoming: Incoming = req.scope[KEY]
        incoming.answer = await pipeline.answer(incoming, parameters)

    return respond


def _resources(
    services: Services, endpoints: Sequence[Endpoint], cors: Cors, lane: Lane
) -> dict[str, _Resource]:
    resources: dict[str, _Resource] = {}
    for endpoint in endpoints:
        for mount in endpoint.mounts:
            template, parameters = _router_template(mount.value + endpoint.path)
            resource = resources.setdefault(template, _Resource(cors))
            pipeline = Pipeline(endpoint, mount, services, parameters)
            resource.add(endpoint.method, pipeline)
            if endpoint.lane:
                lane.add(endpoint.method, mount.value + endpoint.path, pipeline)
    return resources


def _router_template(path: str) -> tuple[str, dict[str, str]]:
    """The path with parameters named by place, and which place has which name.

    Falcon wants one name per place in the tree; endpoints name theirs for what they mean.
    """
    names = parameter_names(path)
    places = {f"p{path[: path.index('{' + name + '}')].count('/')}": name for name in names}
    template = path
    for place, name in places.items():
        template = re.sub(r"\{" + name + r"\}", "{" + place + "}", template)
    return template, places
