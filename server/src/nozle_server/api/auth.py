"""Who is calling, and may they: from the Authorization header to a Principal with the rights of Decision 7.

The key comes from that header only; a query value or a cookie would end up in logs and browsers.
"""

from collections.abc import Mapping
from dataclasses import replace

from nozle_server.api.endpoint import Call, Endpoint, Scope
from nozle_server.api.errors import Down
from nozle_server.api.incoming import Incoming
from nozle_server.core.errors import InvalidInput, NotAllowed, NotAuthenticated, NotFound, Unavailable
from nozle_server.core.standing import Standing
from nozle_server.customers.queries import get_customer
from nozle_server.identity.customer_sessions import require_session, session_required
from nozle_server.identity.key_cache import KeyCache
from nozle_server.identity.model import KeyKind, Principal

SESSION_HEADER = "x-nozle-customer-session"


async def authenticate(endpoint: Endpoint, incoming: Incoming, keys: KeyCache) -> Principal | None:
    """The principal of the request's key, if that may call this endpoint; None where nobody needs a key.

    NotAuthenticated without a valid key, NotAllowed with one that has no right to this endpoint.
    """
    if endpoint.scope is Scope.PUBLIC:
        return None
    key_text = _bearer(incoming.headers)
    principal = await _find(endpoint, keys, key_text) if key_text else None
    if principal is None:
        raise NotAuthenticated("invalid api key")
    if principal.kind is KeyKind.PUBLISHABLE:
        _check_publishable(endpoint, principal)
    return principal


def needs_customer_session(call: Call) -> bool:
    """Whether `check_customer_session` has something to check."""
    return (
        call.endpoint.customer_data is not None
        and call._principal is not None
        and call.principal.kind is KeyKind.PUBLISHABLE
        and (call.principal.publishable_key_access == "customer_session" or SESSION_HEADER in call.headers)
    )


def find_key_standing(call: Call, keys: KeyCache) -> Standing | None:
    """Stands while the call's key speaks for whom it spoke now; None where that is not known."""
    key_text = _bearer(call.headers)
    return keys.standing_of(key_text, call.principal) if key_text else None


async def check_customer_session(call: Call) -> None:
    """Hold a publishable key to its customer session where the organization asks for one, or one is sent.

    A call made for a session never sees cost, revenue or margin, whatever the organization shows otherwise.
    """
    data = call.endpoint.customer_data
    if data is None or call.principal.kind is KeyKind.SECRET:
        return
    token = call.headers.get(SESSION_HEADER)
    if token is None:
        if call.principal.publishable_key_access == "customer_session":
            raise session_required()
        return
    call._session = await require_session(
        call.tx, org_id=call.org_id, token=token, scope=data.session_scope, real_now=call.received_at
    )
    call._principal = replace(call.principal, show_margin_to_publishable_keys=False)
    if data.where != "handler":
        try:
            customer = await get_customer(call.tx, call.org_id, _external_id(call, data.where, data.name))
        except (NotFound, InvalidInput):
            raise session_required() from None
        call.require_customer(customer.id)


def _external_id(call: Call, where: str, name: str) -> str:
    if where == "path":
        return call.path[name]
    # Empty, and so nobody's id, where the body has another form than the one with this field.
    return getattr(call.query if where == "query" else call.body, name, None) or ""


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


async def _find(endpoint: Endpoint, keys: KeyCache, key_text: str) -> Principal | None:
    try:
        return await keys.find(key_text)
    except Unavailable as fault:
        if endpoint.when_down is None:
            raise
        principal = keys.last_known(key_text)
        if principal is None:
            raise Down(fault, endpoint.when_down) from fault
        return principal


def _check_publishable(endpoint: Endpoint, principal: Principal) -> None:
    if endpoint.scope is Scope.SECRET:
        raise NotAllowed("this endpoint needs a secret key", code="secret_key_required")
    if principal.publishable_key_access == "catalog_only" and not endpoint.catalog:
        raise NotAllowed(
            "this organization's publishable keys may only read the catalog",
            code="publishable_key_not_permitted",
        )
