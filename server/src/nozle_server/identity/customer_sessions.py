"""Customer sessions: what a merchant's server hands to one customer's browser beside the publishable key.

A session is bound to one customer of one organization and to some scopes. It guards access, so it lives on
real time, whatever the organization's test clock says.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.core.errors import InvalidInput, NotAllowed
from nozle_server.identity import store
from nozle_server.identity.model import CustomerSession
from nozle_server.identity.tokens import SESSION_PREFIX, hash_secret, new_session_token
from nozle_server.infra.database import Tx

# Decision 7 of the contract names the first four, which are also the default; §4.10 the others.
DEFAULT_SCOPES = ("entitlements:read", "billing:read", "credits:read", "realtime")
SCOPES = frozenset((*DEFAULT_SCOPES, "checkout:create", "subscriptions:write", "topups:create"))

DEFAULT_LIFETIME_S = 900
MIN_LIFETIME_S = 60
MAX_LIFETIME_S = 3600

_MAX_TOKEN_LENGTH = 200


async def create_session(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    scopes: Sequence[str] | None,
    expires_in_seconds: int,
    real_now: datetime,
) -> tuple[CustomerSession, str]:
    """A session and its token, shown this once. InvalidInput for an unknown scope or a bad lifetime."""
    if not MIN_LIFETIME_S <= expires_in_seconds <= MAX_LIFETIME_S:
        raise InvalidInput(
            f"expires_in_seconds must be {MIN_LIFETIME_S} to {MAX_LIFETIME_S}",
            details={"expires_in_seconds": ["value_is_out_of_range"]},
        )
    chosen = DEFAULT_SCOPES if scopes is None else tuple(dict.fromkeys(scopes))
    if not chosen or not SCOPES.issuperset(chosen):
        raise InvalidInput(
            f"scopes must be some of {', '.join(sorted(SCOPES))}", details={"scopes": ["value_is_invalid"]}
        )
    token = new_session_token()
    session = CustomerSession(org_id, customer_id, chosen, real_now + timedelta(seconds=expires_in_seconds))
    await store.insert_session(tx, session, hash_secret(token), real_now)
    return session, token


async def require_session(
    tx: Tx, *, org_id: UUID, token: str, scope: str, real_now: datetime
) -> CustomerSession:
    """The live session of a token; NotAllowed when there is none, or when it was not made for this scope."""
    session = None
    if token.startswith(SESSION_PREFIX) and len(token) <= _MAX_TOKEN_LENGTH and token.isascii():
        session = await store.find_session(tx, org_id, hash_secret(token))
    if session is None or session.expires_at <= real_now:
        raise session_required()
    if scope not in session.scopes:
        raise NotAllowed(
            "the customer session was not made for this", code="customer_session_scope_not_permitted"
        )
    return session


def session_required() -> NotAllowed:
    """Also the answer to another customer's session: whether that customer exists is not for this caller."""
    return NotAllowed("this needs a customer session of this customer", code="customer_session_required")
