"""The API described by itself: OpenAPI for machines, a page for people."""

from collections.abc import Callable, Sequence
from functools import cache

from nozle_server.api.docs_page import CONTENT_SECURITY_POLICY, render_page
from nozle_server.api.endpoint import Call, Endpoint, Mount, Reply, Scope
from nozle_server.api.openapi import build_document
from nozle_server.core import json


def endpoints(table: Callable[[], Sequence[Endpoint]]) -> tuple[Endpoint, ...]:
    """The two endpoints. They describe a table that they are part of, so it is read when first asked for."""

    @cache
    def document() -> bytes:
        return json.dumps(build_document(table()))

    @cache
    def page() -> bytes:
        return render_page(table()).encode()

    async def openapi(_call: Call) -> object:
        return Reply(raw=document())

    async def reading_view(_call: Call) -> object:
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "x-content-type-options": "nosniff"}
        return Reply(raw=page(), headers=headers)

    return (
        Endpoint(
            method="GET",
            path="/openapi.json",
            handler=openapi,
            scope=Scope.PUBLIC,
            mounts=(Mount.ROOT,),
            summary="This API as OpenAPI 3.1",
            tag="Documentation",
            reply_schema={"type": "object"},
            transaction=False,
        ),
        Endpoint(
            method="GET",
            path="/docs",
            handler=reading_view,
            scope=Scope.PUBLIC,
            mounts=(Mount.ROOT,),
            summary="This API as a page to read",
            tag="Documentation",
            media_type="text/html; charset=utf-8",
            reply_schema={"type": "string"},
            transaction=False,
        ),
    )
