"""What stops a use case becomes one status and one of two forms, and tells nothing it should not."""

import asyncio
import io
import json
from collections.abc import Callable

import msgspec
import pytest
import structlog

from nozle_server.api.endpoint import BOTH, Call, Endpoint, Scope
from nozle_server.core.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    NozleError,
    RuleBroken,
    Unavailable,
)
from nozle_server.infra.logging import configure_logging

from .conftest import Client

pytestmark = pytest.mark.database


class Body(msgspec.Struct):
    count: int


def _raising(error: Exception) -> Endpoint:
    async def handler(_call: Call) -> object:
        raise error

    return Endpoint(
        method="POST",
        path="/thing",
        handler=handler,
        scope=Scope.PUBLIC,
        summary="",
        tag="",
        mounts=BOTH,
        body=Body,
        body_optional=True,
        transaction=False,
    )


CASES = [
    (
        InvalidInput("count is odd", details={"count": ["is_odd"]}),
        400,
        "invalid_request",
        422,
        "validation_errors",
    ),
    (InvalidInput("bad", code="bad_range"), 400, "bad_range", 422, "validation_errors"),
    (NotAllowed("no", code="forbidden"), 403, "forbidden", 403, "forbidden"),
    (
        NotFound("customer not found", code="customer_not_found"),
        404,
        "customer_not_found",
        404,
        "customer_not_found",
    ),
    (Conflict("taken", code="subscription_exists"), 409, "subscription_exists", 409, "subscription_exists"),
    (
        Conflict("taken", code="value_already_exist", details={"code": ["value_already_exist"]}),
        409,
        "value_already_exist",
        422,
        "validation_errors",
    ),
    (RuleBroken("no", code="payment_failed"), 422, "payment_failed", 422, "payment_failed"),
    (Unavailable("busy", code="database_busy"), 503, "database_busy", 503, "database_busy"),
]


@pytest.mark.parametrize(("error", "status", "code", "core_status", "core_code"), CASES)
async def test_each_kind_has_its_status_and_both_forms(
    client_of: Callable[..., Client],
    error: NozleError,
    status: int,
    code: str,
    core_status: int,
    core_code: str,
) -> None:
    client = client_of(_raising(error))
    for prefix in ("/api/v1", "/engine/api/v1"):
        answer = await client.send("POST", f"{prefix}/thing")
        assert (answer.status, answer.json) == (status, {"error": error.message, "code": code})
    core = await client.send("POST", "/core/api/v1/thing")
    assert core.status == core.json["status"] == core_status
    assert core.json["code"] == core_code
    assert "message" not in core.json


async def test_core_lists_the_faults_of_each_field_as_lago_does(client_of: Callable[..., Client]) -> None:
    client = client_of(_raising(AssertionError("not reached")))
    answer = await client.send("POST", "/core/api/v1/thing", body={"count": "many"})
    assert answer.status == 422
    assert answer.json == {
        "status": 422,
        "error": "Unprocessable Entity",
        "code": "validation_errors",
        "error_details": {"count": ["invalid_type"]},
    }


async def test_unparsable_json_is_400_on_core_too(client_of: Callable[..., Client]) -> None:
    client = client_of(_raising(AssertionError("not reached")))
    answer = await client.send("POST", "/core/api/v1/thing", raw=b"{")
    assert answer.json == {"status": 400, "error": "Bad Request", "code": "malformed_json"}


async def test_core_says_unauthorized_and_not_found_in_its_own_form(client: Client) -> None:
    answer = await client.send("GET", "/core/api/v1/nothing-here")
    assert answer.json == {"status": 404, "error": "Not Found", "code": "endpoint_not_found"}


async def test_who_lost_the_core_of_the_url_is_told_where_it_is(client: Client) -> None:
    """Lago's clients join paths as browsers do, and drop `/core` where its last slash is missing."""
    answer = await client.send("POST", "/api/v1/billable_metrics", body={})
    assert (answer.status, answer.json["code"]) == (404, "endpoint_not_found")
    assert "/core/" in answer.json["error"]


async def test_method_not_allowed_names_the_methods_that_are(client_of: Callable[..., Client]) -> None:
    client = client_of(_raising(AssertionError("not reached")))
    seed = await client.send("GET", "/api/v1/thing")
    assert (seed.status, seed.headers["allow"]) == (405, "OPTIONS, POST")
    assert seed.json["code"] == "not_allowed"
    core = await client.send("GET", "/core/api/v1/thing")
    assert core.json == {"status": 405, "error": "Method Not Allowed", "code": "not_allowed"}


async def test_busy_says_when_to_come_back(client_of: Callable[..., Client]) -> None:
    answer = await client_of(_raising(Unavailable("busy"))).send("POST", "/api/v1/thing")
    assert answer.headers["retry-after"] == "1"


async def test_the_unexpected_is_logged_in_full_and_told_in_two_words(
    client_of: Callable[..., Client],
) -> None:
    log = io.BytesIO()
    configure_logging("info", log)
    try:
        client = client_of(_raising(RuntimeError("password=hunter2")))
        answer = await client.send(
            "POST", "/api/v1/thing?secret=1", headers=[("x-request-id", "trace-1")], body={"count": 7}
        )
        await asyncio.sleep(0)  # the loop goes round
    finally:
        structlog.reset_defaults()
    assert (answer.status, answer.json) == (500, {"error": "internal error", "code": "internal_error"})
    failure, access = [json.loads(line) for line in log.getvalue().splitlines()]
    assert failure["level"] == "error"
    assert "RuntimeError" in failure["exception"]
    assert failure["request_id"] == access["request_id"] == "trace-1"
    assert access | {"time": "", "duration_ms": 0} == {
        "time": "",
        "level": "info",
        "msg": "request",
        "method": "POST",
        "route": "/api/v1/thing",
        "status": 500,
        "duration_ms": 0,
        "org_id": None,
        "request_id": "trace-1",
    }
    assert b"secret=1" not in log.getvalue()


@pytest.mark.parametrize("given", ["a", "req_1.2-3_x", "x" * 128])
async def test_a_callers_own_request_id_is_kept(client: Client, given: str) -> None:
    answer = await client.send("GET", "/health", headers=[("x-request-id", given)])
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a,b", "é", 'a"', "a\x7f", "<script>"])
async def test_one_that_could_do_harm_is_replaced(client: Client, given: str) -> None:
    answer = await client.send("GET", "/health", headers=[("x-request-id", given)])
    assert answer.headers["x-request-id"].startswith("req_")


async def test_every_answer_has_a_request_id_of_its_own(client: Client) -> None:
    targets = ("/health", "/nothing", "//", "/api/v1/ping", "/api/v1/admin/reload")
    ids = [(await client.send("GET", target)).headers["x-request-id"] for target in targets]
    assert len(set(ids)) == len(targets)
