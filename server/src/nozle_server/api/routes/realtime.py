"""Realtime: a token with which a browser connects and hears of changes (contract 1.8 and 5)."""

import hmac
from uuid import UUID

import msgspec

from nozle_server.api.endpoint import SEED, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.shapes import STRING, shape
from nozle_server.core.errors import NotAllowed, NotAuthenticated
from nozle_server.core.text import parse_id
from nozle_server.identity.model import KeyKind
from nozle_server.identity.queries import get_organization
from nozle_server.realtime.channels import parse_name
from nozle_server.realtime.model import Channel

PATH = "/connection/websocket"


class TokenQuery(msgspec.Struct):
    customer_id: str | None = None


async def make_token(call: Call) -> object:
    query: TokenQuery = call.query
    async with call.services.database.connection() as connection:
        organization = await get_organization(connection, call.org_id)
    opened = organization.workspace_channel_for_publishable_keys
    secret = call.principal.kind is KeyKind.SECRET
    if query.customer_id is None:
        if not secret and not opened:
            raise NotAllowed(
                "a publishable key needs customer_id: the organization has not opened its own channel to such keys",
                code="workspace_channel_not_permitted",
            )
        scope, channels = "workspace", [Channel(call.org_id, None)]
    else:
        scope, channels = (
            "customer",
            [Channel(call.org_id, parse_id(query.customer_id, "customer_id"))],
        )
        if opened:
            channels.append(Channel(call.org_id, None))
    token, expires_at = await call.services.realtime.new_token(
        org_id=call.org_id, key_id=call.principal.key_id, scope=scope, channels=channels
    )
    return {
        "token": token,
        "workspaceId": call.org_id,
        "workspace_id": call.org_id,
        "expires_at": expires_at,
        "url": _url(call),
    }


def _url(call: Call) -> str:
    elsewhere = call.services.realtime.url
    if elsewhere is not None:
        return elsewhere
    public = call.services.settings.public_url
    base = public or f"http://{call.headers.get('host', 'localhost')}"
    return f"ws{base.removeprefix('http')}{PATH}"


def _endpoint(path: str) -> Endpoint:
    return Endpoint(
        method="GET",
        path=path,
        handler=make_token,
        scope=Scope.ANY_KEY,
        mounts=SEED,
        summary="A token for realtime",
        description=(
            "Lives for one hour; a client fetches the next here when its connection asks for it. With `customer_id` it opens"
            " the channel `customer:{workspace_id}:{customer_id}` (the id percent-encoded); without, and with a secret key,"
            " `workspace:{workspace_id}:entitlements`, which hears of all customers. A publishable key may open the latter only"
            " where the organization allows it (`workspace_channel_for_publishable_keys`). Connect to `url` with a client of"
            " Centrifugo, such as `centrifuge` for JavaScript. A customer session needs the scope `realtime`."
        ),
        tag="Entitlements",
        query=TokenQuery,
        query_aliases={"customerId": "customer_id", "external_customer_id": "customer_id"},
        reply_schema=shape(
            token=STRING, workspaceId=STRING, workspace_id=STRING, expires_at=STRING, url=STRING
        ),
        customer_data=CustomerData("query", "customer_id", "realtime"),
        # Noting who may be listening takes a connection of its own: nobody waits for one while holding another.
        transaction=False,
        example=Example(
            response={
                "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJjdXN0b21lciJ9.c2lnbmF0dXJl",
                "workspaceId": "019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e01",
                "workspace_id": "019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e01",
                "expires_at": "2026-01-15T11:30:00Z",
                "url": "wss://billing.example.com/connection/websocket",
            }
        ),
    )


class ConnectionMeta(msgspec.Struct):
    """What the connection's token said of the key that it was made with, and of the channels that it opens."""

    key: UUID
    allow: list[str]


class JoinBody(msgspec.Struct):
    """A subscription as Centrifugo's subscribe proxy asks about it; what else it tells is not looked at."""

    channel: str
    meta: ConnectionMeta | None = None


async def may_join(call: Call) -> object:
    """https://centrifugal.dev/docs/server/proxy#subscribe-proxy"""
    key = call.services.settings.centrifugo_api_key
    given = call.headers.get("x-api-key", "")
    if key is None or not hmac.compare_digest(given.encode(), key.encode()):
        raise NotAuthenticated("Centrifugo shows CENTRIFUGO_API_KEY as X-API-Key", code="invalid_api_key")
    body: JoinBody = call.body
    channel = parse_name(body.channel)
    if channel is None or body.meta is None or body.channel not in body.meta.allow:
        return {"error": {"code": 403, "message": "permission denied"}}
    may = await call.services.realtime.may_join(org_id=channel.org_id, key_id=body.meta.key, channel=channel)
    return {"result": {}} if may else {"disconnect": {"code": 4501, "reason": "invalid token"}}


_MAY_JOIN = Endpoint(
    method="POST",
    path="/realtime/centrifugo/subscribe",
    handler=may_join,
    scope=Scope.PUBLIC,
    mounts=SEED,
    transaction=False,
    summary="Whether a client of Centrifugo may subscribe",
    description=(
        "For an external Centrifugo alone, as its subscribe proxy with `include_connection_meta`; it shows `CENTRIFUGO_API_KEY`"
        " as `X-API-Key`. Answers `result` when the connection's token opens the channel and the API key that it was made"
        " with still lives, else `error` or `disconnect`."
    ),
    tag="Entitlements",
    body=JoinBody,
    errors=(401,),
    reply_schema={"type": "object"},
    example=Example(
        request={
            "client": "9336a229-2400-4ebc-8c50-0a643d22e8a0",
            "transport": "websocket",
            "protocol": "json",
            "encoding": "json",
            "user": "customer:019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e02",
            "channel": "customer:019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e01:acme",
            "meta": {
                "key": "019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e02",
                "allow": ["customer:019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e01:acme"],
            },
        },
        response={"result": {}},
    ),
)

ENDPOINTS = (_endpoint("/auth/centrifugo-token"), _endpoint("/auth/ws-token"), _MAY_JOIN)
