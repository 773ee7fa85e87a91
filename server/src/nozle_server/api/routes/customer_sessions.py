"""Customer sessions: a merchant's server asks for a token that lets one customer's browser see that
customer's data.
"""

import msgspec

from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Scope
from nozle_server.customers.queries import get_customer
from nozle_server.identity.customer_sessions import DEFAULT_LIFETIME_S, DEFAULT_SCOPES, create_session


class NewSession(msgspec.Struct):
    """Whose data, for how long, and which."""

    customer_id: str
    expires_in_seconds: int = DEFAULT_LIFETIME_S
    scopes: list[str] | None = None


async def create(call: Call) -> object:
    asked: NewSession = call.body
    customer = await get_customer(call.tx, call.org_id, asked.customer_id)
    session, token = await create_session(
        call.tx,
        org_id=call.org_id,
        customer_id=customer.id,
        scopes=asked.scopes,
        expires_in_seconds=asked.expires_in_seconds,
        real_now=call.received_at,
    )
    return {
        "customer_session": {
            "token": token,
            "customer_id": asked.customer_id,
            "expires_at": session.expires_at,
            "scope": session.scopes,
        }
    }


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/customer-sessions",
        handler=create,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Create a customer session",
        description=(
            "A token for one customer's browser, sent as `X-Nozle-Customer-Session` beside the publishable"
            " key. It lives 60 to 3600 seconds (900 unless told) and opens only the scopes it was made for."
        ),
        tag="Customers",
        body=NewSession,
        body_aliases={"customerId": "customer_id", "external_customer_id": "customer_id"},
        reply_schema={
            "type": "object",
            "required": ["customer_session"],
            "properties": {
                "customer_session": {
                    "type": "object",
                    "required": ["token", "customer_id", "expires_at", "scope"],
                    "properties": {
                        "token": {"type": "string"},
                        "customer_id": {"type": "string"},
                        "expires_at": {"type": "string", "format": "date-time"},
                        "scope": {"type": "array", "items": {"type": "string"}},
                    },
                }
            },
        },
        errors=(404,),
        example=Example(
            request={"customer_id": "cust_123", "expires_in_seconds": 900},
            response={
                "customer_session": {
                    "token": "csess_4mT0Vb2yQ9cXw7ZkR1uJ5sLhN8dGfAeP",
                    "customer_id": "cust_123",
                    "expires_at": "2026-01-15T10:45:00Z",
                    "scope": list(DEFAULT_SCOPES),
                }
            },
        ),
    ),
)
