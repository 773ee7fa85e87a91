"""The document describes what is mounted, completely, and in valid OpenAPI; the page shows it without scripts."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Annotated, Any, Literal

import msgspec
import pytest

from nozle_server.api.docs_page import render_page
from nozle_server.api.endpoint import CORE, SEED, Amount, Call, CustomerData, Endpoint, Example, Scope
from nozle_server.api.openapi import build_document
from nozle_server.api.table import ENDPOINTS

from .conftest import Client

NASTY = "<script>alert(1)</script>"


class Line(msgspec.Struct):
    amount: Amount


class Order(msgspec.Struct):
    customer_id: Annotated[str, msgspec.Meta(min_length=1, description=f"Whose {NASTY}")]
    lines: list[Line]
    note: str | None = None


class Envelope(msgspec.Struct):
    order: Order


class Search(msgspec.Struct):
    customer_id: str
    interval: Literal["day", "week"] = "day"
    status: list[str] = []
    page: int | None = None


async def _nothing(_call: Call) -> object:
    return None


SAMPLE = (
    Endpoint(
        method="POST",
        path="/orders/{id}",
        handler=_nothing,
        scope=Scope.SECRET,
        summary=f"Order {NASTY}",
        description=f"With `code` and {NASTY}",
        tag="Orders",
        mounts=(*SEED, *CORE),
        body=Order,
        body_aliases={"customerId": "customer_id"},
        wrapped_key="order",
        wrapped_body=Envelope,
        reply_schema=Line,
        errors=(404, 422),
        example=Example({"customer_id": NASTY}, {"amount": Amount("0.10")}),
        idempotent=True,
    ),
    Endpoint(
        method="DELETE",
        path="/orders/{id}",
        handler=_nothing,
        scope=Scope.SECRET,
        summary="Cancel",
        tag="Orders",
        reply_schema=Line,
        idempotent=True,
        key_required=True,
    ),
    Endpoint(
        method="GET",
        path="/orders",
        handler=_nothing,
        scope=Scope.ANY_KEY,
        summary="Search",
        tag="Orders",
        query=Search,
        query_aliases={"customerId": "customer_id"},
        reply_schema=list[Line],
        customer_data=CustomerData("query", "customer_id", "billing:read"),
    ),
)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


@pytest.mark.parametrize("endpoints", [ENDPOINTS, SAMPLE], ids=["api", "sample"])
def test_every_reference_resolves(endpoints: tuple[Endpoint, ...]) -> None:
    document = build_document(endpoints)
    for reference in references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


@pytest.mark.parametrize("endpoints", [ENDPOINTS, SAMPLE], ids=["api", "sample"])
def test_every_mounted_path_is_there_and_no_other(endpoints: tuple[Endpoint, ...]) -> None:
    mounted = {
        (mount.value + endpoint.path, endpoint.method.lower())
        for endpoint in endpoints
        for mount in endpoint.mounts
    }
    assert {(path, method) for path, method, _ in operations(build_document(endpoints))} == mounted


@pytest.mark.parametrize("endpoints", [ENDPOINTS, SAMPLE], ids=["api", "sample"])
def test_operations_are_complete(endpoints: tuple[Endpoint, ...]) -> None:
    ids = []
    for path, _, operation in operations(build_document(endpoints)):
        ids.append(operation["operationId"])
        named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        statuses = set(operation["responses"])
        if operation["security"]:
            assert {"401", "403", "503"} <= statuses
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= statuses
        for status in statuses - {"200"}:
            reference = operation["responses"][status].get("$ref", "")
            if reference:
                expected = "CoreError" if path.startswith("/core/") else "Error"
                assert reference == f"#/components/responses/{expected}{status}"
    assert len(ids) == len(set(ids))


def test_core_paths_declare_422_beside_400() -> None:
    responses = build_document(SAMPLE)["paths"]["/core/api/v1/orders/{id}"]["post"]["responses"]
    assert {"400", "422", "409"} <= set(responses)


def test_fields_are_described() -> None:
    document = build_document(SAMPLE)
    assert "Search" not in document["components"]["schemas"]
    search = document["paths"]["/api/v1/orders"]["get"]
    parameters = {one["name"]: one for one in search["parameters"]}
    assert parameters["customer_id"] == {
        "name": "customer_id",
        "in": "query",
        "required": True,
        "schema": {"type": "string"},
        "description": "Also accepted as `customerId`.",
    }
    assert parameters["interval"]["schema"]["enum"] == ["day", "week"]
    assert parameters["page"]["schema"] == {"type": "integer"}
    assert parameters["status"]["schema"]["type"] == "array"
    assert "X-Nozle-Customer-Session" in parameters
    components = document["components"]["schemas"]
    assert components["Line"]["properties"]["amount"] == {"$ref": "#/components/schemas/Amount"}
    assert {option["type"] for option in components["Amount"]["anyOf"]} == {"number", "string"}


def test_a_key_is_required_where_the_endpoint_says_so() -> None:
    order = build_document(SAMPLE)["paths"]["/api/v1/orders/{id}"]
    for method, required in (("post", False), ("delete", True)):
        headers = [one for one in order[method]["parameters"] if one["in"] == "header"]
        assert [(one["name"], one["required"]) for one in headers] == [("Idempotency-Key", required)]
        assert "400" in order[method]["responses"]
    assert "Needs an <code>Idempotency-Key</code>" in render_page(SAMPLE)


def test_security_follows_the_scope() -> None:
    paths = build_document(ENDPOINTS)["paths"]
    assert paths["/health"]["get"]["security"] == []
    assert paths["/api/v1/ping"]["get"]["security"] == [{"secret_key": []}, {"publishable_key": []}]
    assert paths["/api/v1/admin/reload"]["post"]["security"] == [{"secret_key": []}]


def test_schemathesis_can_read_it() -> None:
    import schemathesis

    schema = schemathesis.openapi.from_dict(build_document(ENDPOINTS))
    assert len(list(schema.get_all_operations())) == sum(len(endpoint.mounts) for endpoint in ENDPOINTS)


@pytest.mark.database
async def test_document_and_page_are_public(client: Client) -> None:
    document = await client.send("GET", "/openapi.json")
    assert document.json["openapi"] == "3.1.0"
    page = await client.send("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    style = re.search(r"<style>(.*?)</style>", page.body.decode(), re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy


class Page(HTMLParser):
    """Collects a page's links and anchors, and checks that what is opened is closed."""

    VOID = frozenset(("meta", "br", "link", "img"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.links += [values["href"] or ""] if "href" in values else []
        self.anchors += [values["id"] or ""] if "id" in values else []
        assert not [name for name in values if name.startswith("on") or name in ("src", "style")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.mark.parametrize("endpoints", [ENDPOINTS, SAMPLE], ids=["api", "sample"])
def test_the_page_is_whole_and_loads_nothing(endpoints: tuple[Endpoint, ...]) -> None:
    page = Page(render_page(endpoints))
    assert not page.tags & {"script", "img", "link", "iframe", "form", "object"}
    assert len(page.anchors) == len(set(page.anchors)) == len(endpoints) + 1
    for link in page.links:
        assert link == "/openapi.json" or link.removeprefix("#") in page.anchors


def test_the_page_escapes_everything() -> None:
    text = render_page(SAMPLE)
    assert NASTY not in text
    assert "&lt;script&gt;" in text
    assert "With <code>code</code> and" in text
    assert "&quot;amount&quot;: 0.1" in text
