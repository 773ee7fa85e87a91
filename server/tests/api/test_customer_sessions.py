"""A03 and Decision 7: what a publishable key may see of a customer, with and without that customer's session."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
import pytest

from nozle_server.api.endpoint import Call, CustomerData, Endpoint, Scope
from nozle_server.customers.model import CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.customers.queries import get_customer
from nozle_server.identity.customer_sessions import DEFAULT_SCOPES, SCOPES
from nozle_server.infra.database import Database

from .conftest import NOW, Answer, AnyServices, Client, Tenant

pytestmark = pytest.mark.database

TARGETS = ["/api/v1/by-query?customer_id={}", "/api/v1/by-path/{}", "/api/v1/by-handler/{}"]


class Named(msgspec.Struct):
    customer_id: str = ""


async def _show(call: Call) -> object:
    return {"margin": call.principal.may_see_margin}


async def _show_by_handler(call: Call) -> object:
    customer = await get_customer(call.tx, call.org_id, call.path["id"])
    call.require_customer(customer.id)
    return await _show(call)


def _endpoint(
    method: str, path: str, where: str, name: str, handler: object = _show, **options: object
) -> Endpoint:
    return Endpoint(
        method=method,
        path=path,
        handler=handler,  # type: ignore[arg-type]
        scope=Scope.ANY_KEY,
        summary="",
        tag="",
        customer_data=CustomerData(where, name, "billing:read"),
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
def views(client_of: Callable[..., Client]) -> Client:
    """An API with one view of customer data for each way of naming the customer."""
    from nozle_server.api.routes import customer_sessions

    return client_of(
        *customer_sessions.ENDPOINTS,
        _endpoint("GET", "/by-query", "query", "customer_id", query=Named),
        _endpoint("GET", "/by-path/{id}", "path", "id"),
        _endpoint(
            "POST", "/by-body", "body", "customer_id", body=Named, body_aliases={"customerId": "customer_id"}
        ),
        _endpoint("GET", "/by-handler/{id}", "handler", "", _show_by_handler),
        _endpoint("GET", "/forgotten/{id}", "handler", ""),
        Endpoint(
            method="GET", path="/plans", handler=_show, scope=Scope.ANY_KEY, summary="", tag="", catalog=True
        ),
    )


@pytest.fixture
async def strict(new_tenant: Callable[..., Awaitable[Tenant]]) -> Tenant:
    return await new_tenant(publishable_key_access="customer_session", show_margin_to_publishable_keys=True)


async def new_session(views: Client, tenant: Tenant, **options: object) -> Answer:
    return await views.send(
        "POST", "/api/v1/customer-sessions", key=tenant.secret, body={"customer_id": "acme", **options}
    )


async def token(views: Client, tenant: Tenant, **options: object) -> str:
    text: str = (await new_session(views, tenant, **options)).json["customer_session"]["token"]
    return text


async def view(
    views: Client, tenant: Tenant, session: str | None, target: str, customer: str = "acme"
) -> Answer:
    headers = [] if session is None else [("x-nozle-customer-session", session)]
    return await views.send("GET", target.format(customer), key=tenant.publishable, headers=headers)


async def test_a_session_is_made_for_one_customer_for_a_while(views: Client, strict: Tenant) -> None:
    answer = await new_session(views, strict)
    session = answer.json["customer_session"]
    assert session["token"].startswith("csess_")
    assert session | {"token": ""} == {
        "token": "",
        "customer_id": "acme",
        "expires_at": "2026-01-15T10:45:00Z",
        "scope": list(DEFAULT_SCOPES),
    }


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"customer_id": "nobody"}, 404),
        ({"customer_id": ""}, 400),
        ({"customer_id": 7}, 400),
        ({"expires_in_seconds": 59}, 400),
        ({"expires_in_seconds": 3601}, 400),
        ({"expires_in_seconds": "900"}, 400),
        ({"scopes": []}, 400),
        ({"scopes": ["everything"]}, 400),
        ({"scopes": "billing:read"}, 400),
        ({"expires_in_seconds": 60, "scopes": sorted(SCOPES)}, 200),
        ({"expires_in_seconds": 3600}, 200),
    ],
)
async def test_what_may_be_asked_for(
    views: Client, strict: Tenant, options: dict[str, object], status: int
) -> None:
    assert (await new_session(views, strict, **options)).status == status


@pytest.mark.parametrize("target", TARGETS)
async def test_in_session_mode_a_publishable_key_alone_sees_no_customer(
    views: Client, strict: Tenant, target: str
) -> None:
    answer = await view(views, strict, None, target)
    assert (answer.status, answer.json["code"]) == (403, "customer_session_required")
    assert (await views.send("GET", target.format("acme"), key=strict.secret)).status == 200
    assert (await view(views, strict, None, "/api/v1/plans")).status == 200


@pytest.mark.parametrize("target", TARGETS)
async def test_with_its_session_it_sees_that_customer_but_no_margin(
    views: Client, strict: Tenant, target: str
) -> None:
    answer = await view(views, strict, await token(views, strict), target)
    assert (answer.status, answer.json) == (200, {"margin": False})


async def test_a_body_names_the_customer_under_any_of_its_names(views: Client, strict: Tenant) -> None:
    headers = [("x-nozle-customer-session", await token(views, strict))]
    for body, status in (({"customerId": "acme"}, 200), ({"customer_id": "other"}, 403), ({}, 403)):
        answer = await views.send(
            "POST", "/api/v1/by-body", key=strict.publishable, headers=headers, body=body
        )
        assert answer.status == status


@pytest.mark.parametrize("target", TARGETS[:2])
@pytest.mark.parametrize("customer", ["other", "nobody", "ACME", "acme%20"])
async def test_another_customer_is_refused_whether_it_exists_or_not(
    views: Client, strict: Tenant, database: Database, target: str, customer: str
) -> None:
    async with database.transaction() as tx:
        await upsert_customer(tx, org_id=strict.id, changes=CustomerChanges("other"), now=NOW)
    answer = await view(views, strict, await token(views, strict), target, customer)
    assert (answer.status, answer.json["code"]) == (403, "customer_session_required")


async def test_a_scope_that_was_not_granted_is_refused(views: Client, strict: Tenant) -> None:
    session = await token(views, strict, scopes=["credits:read"])
    answer = await view(views, strict, session, TARGETS[0])
    assert (answer.status, answer.json["code"]) == (403, "customer_session_scope_not_permitted")


async def test_a_session_ends_in_real_time(views: Client, services: AnyServices, strict: Tenant) -> None:
    session = await token(views, strict, expires_in_seconds=60)
    services.clock.move_to(NOW + timedelta(seconds=59))
    assert (await view(views, strict, session, TARGETS[0])).status == 200
    services.clock.move_to(NOW + timedelta(seconds=60))
    assert (await view(views, strict, session, TARGETS[0])).status == 403


async def test_a_session_opens_nothing_elsewhere(
    views: Client, strict: Tenant, new_tenant: Callable[..., Awaitable[Tenant]]
) -> None:
    other = await new_tenant(publishable_key_access="customer_session")
    session = await token(views, strict)
    assert (await view(views, other, session, TARGETS[0])).status == 403
    for text in (
        "",
        "csess_",
        session[:-1],
        session + "a",
        session.upper(),
        strict.secret,
        "csess_é",
        "x" * 10_000,
    ):
        assert (await view(views, strict, text, TARGETS[0])).status == 403
    answer = await views.send(
        "GET", TARGETS[0].format("acme"), headers=[("authorization", f"Bearer {session}")]
    )
    assert answer.status == 401


async def test_in_open_mode_a_session_is_not_needed_but_holds_once_sent(
    views: Client, new_tenant: Callable[..., Awaitable[Tenant]]
) -> None:
    tenant = await new_tenant(show_margin_to_publishable_keys=True)
    assert (await view(views, tenant, None, TARGETS[0])).json == {"margin": True}
    session = await token(views, tenant)
    assert (await view(views, tenant, session, TARGETS[0])).json == {"margin": False}
    assert (await view(views, tenant, session, TARGETS[0], "other")).status == 403


async def test_a_handler_that_forgets_to_compare_the_customer_answers_nothing(
    views: Client, strict: Tenant
) -> None:
    answer = await view(views, strict, await token(views, strict), "/api/v1/forgotten/{}")
    assert answer.status == 500


async def test_tokens_are_stored_as_hashes(views: Client, strict: Tenant, database: Database) -> None:
    session = await token(views, strict)
    async with database.connection() as connection:
        rows = await connection.fetch("select t::text from customer_sessions t where org_id = $1", strict.id)
    assert rows
    assert not any(session in row["t"] for row in rows)
