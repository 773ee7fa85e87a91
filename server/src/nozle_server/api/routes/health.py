"""Is it alive, is the database there, and what is it doing: for load balancers, people and Prometheus."""

import asyncio
import hmac
import ipaddress

from nozle_server.api.endpoint import Call, Endpoint, Example, Mount, Reply, Scope
from nozle_server.api.metrics import CONTENT_TYPE
from nozle_server.core.errors import NotAuthenticated, Unavailable

_DOWN = {"ok": False, "engine": "error"}
# A ping that waits for a database in trouble is no use to the one who asks.
_PING_TIMEOUT_S = 2.0
_FORWARDING_HEADERS = frozenset(("forwarded", "via", "x-forwarded-for", "x-real-ip"))


async def health(_call: Call) -> object:
    return {"status": "ok"}


async def ping(call: Call) -> object:
    """Always 200 with a valid key: the body says how the database is."""
    try:
        async with asyncio.timeout(_PING_TIMEOUT_S), call.services.database.connection() as connection:
            await connection.fetchval("select 1")
    except (Unavailable, TimeoutError):
        return _DOWN
    return {"ok": True, "engine": "ok"}


async def queue_metrics(call: Call) -> object:
    return Reply(raw=(await call.services.queue_metrics()).encode())


async def metrics(call: Call) -> object:
    if not (_is_local(call) or _has_secret(call)):
        raise NotAuthenticated("metrics need the metrics secret", code="invalid_metrics_secret")
    return Reply(raw=call.services.metrics.render() + (await call.services.audit_metrics()).encode())


def _is_local(call: Call) -> bool:
    # Behind a proxy on this machine everybody comes from loopback.
    if call.client is None or not _FORWARDING_HEADERS.isdisjoint(call.headers):
        return False
    try:
        return ipaddress.ip_address(call.client).is_loopback
    except ValueError:
        return False


def _has_secret(call: Call) -> bool:
    secret = call.services.settings.metrics_secret
    given = call.headers.get("authorization", "")
    return secret is not None and hmac.compare_digest(given.encode(), f"Bearer {secret}".encode())


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/health",
        handler=health,
        scope=Scope.PUBLIC,
        mounts=(Mount.ROOT,),
        summary="Is the process serving",
        tag="Utility",
        reply_schema={
            "type": "object",
            "required": ["status"],
            "properties": {"status": {"const": "ok"}},
        },
        example=Example(response={"status": "ok"}),
        transaction=False,
    ),
    Endpoint(
        method="GET",
        path="/ping",
        handler=ping,
        scope=Scope.ANY_KEY,
        summary="Is the database reachable",
        description=(
            "200 with `ok: false` while the database is down. A key that this process has not seen lately"
            " cannot be checked then and gets 503."
        ),
        tag="Utility",
        reply_schema={
            "type": "object",
            "required": ["ok", "engine"],
            "properties": {"ok": {"type": "boolean"}, "engine": {"enum": ["ok", "error"]}},
        },
        example=Example(response={"ok": True, "engine": "ok"}),
        transaction=False,
        when_down=_DOWN,
    ),
    Endpoint(
        method="GET",
        path="/metrics/queues",
        handler=queue_metrics,
        scope=Scope.PUBLIC,
        mounts=(Mount.ROOT,),
        summary="State of the job queues",
        description="Prometheus text format 0.0.4, without names of organizations.",
        tag="Utility",
        media_type=CONTENT_TYPE,
        reply_schema={"type": "string"},
        errors=(503,),
        transaction=False,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        handler=metrics,
        scope=Scope.PUBLIC,
        mounts=(Mount.ROOT,),
        summary="Metrics of this server",
        description=(
            "Prometheus text format 0.0.4: requests and durations by route, of all workers together, and what the last"
            " daily audit found. Answers callers on the same machine, and others with"
            " `Authorization: Bearer <NOZLE_METRICS_SECRET>`."
        ),
        tag="Utility",
        media_type=CONTENT_TYPE,
        reply_schema={"type": "string"},
        errors=(401,),
        transaction=False,
    ),
)
