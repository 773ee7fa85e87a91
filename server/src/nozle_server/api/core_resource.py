"""A resource in Core's form: create, list, get, replace and delete by code, in Core's envelopes."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from nozle_server.api.endpoint import CORE, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.shapes import ANY_OBJECT, PAGE_META, array, shape

Handler = Callable[[Call], Awaitable[object]]


def core_resource(
    *,
    path: str,
    name: str,
    plural: str,
    words: str,
    body: type[msgspec.Struct],
    example: dict[str, object],
    create: Handler,
    index: Handler,
    show: Handler,
    update: Handler,
    delete: Handler,
    update_body: type[msgspec.Struct] | None = None,
    tag: str,
) -> tuple[Endpoint, ...]:
    """The five endpoints of a Core resource. With an `update_body` a PUT changes only what it names."""
    article = "an" if words[0] in "aeiou" else "a"
    many = f"{words}es" if words.endswith("x") else f"{words}s"
    one = shape(**{name: ANY_OBJECT})
    sent: dict[str, object] = {name: example}
    parts: tuple[tuple[str, str, Handler, str, Any], ...] = (
        (
            "POST",
            path,
            create,
            f"Create {article} {words}",
            {"body": body, "errors": (404, 409, 422), "idempotent": True},
        ),
        ("GET", path, index, f"List {many}", {"query": PageQuery}),
        ("GET", path + "/{code}", show, f"Get {article} {words}", {"errors": (404,)}),
        (
            "PUT",
            path + "/{code}",
            update,
            f"Change {article} {words}" if update_body else f"Replace {article} {words}",
            {"body": update_body or body, "errors": (404, 409, 422)},
        ),
        ("DELETE", path + "/{code}", delete, f"Delete {article} {words}", {"errors": (404, 422)}),
    )
    return tuple(
        Endpoint(
            method=method,
            path=place,
            handler=handler,
            scope=Scope.SECRET,
            mounts=CORE,
            summary=summary,
            tag=tag,
            reply_schema=shape(**{plural: array(ANY_OBJECT), "meta": PAGE_META}) if handler is index else one,
            example=Example(
                request=sent if "body" in more else None,
                response={plural: [example], "meta": page_meta(PageQuery(), 1)} if handler is index else sent,
            ),
            **more,
        )
        for method, place, handler, summary, more in parts
    )
