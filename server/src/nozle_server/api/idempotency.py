"""The Idempotency-Key header: one effect and one answer, however often a call is sent."""

import hashlib
import hmac

from msgspec import UNSET

from nozle_server.api.endpoint import Endpoint
from nozle_server.api.errors import Unreadable
from nozle_server.api.incoming import Incoming
from nozle_server.core import json
from nozle_server.core.errors import Conflict
from nozle_server.core.text import is_clean
from nozle_server.identity.model import Principal
from nozle_server.infra.idempotency import Claim, StoredAnswer

MAX_KEY_BYTES = 255
REPLAYED = {"idempotent-replayed": "true"}


def read_claim(
    endpoint: Endpoint, incoming: Incoming, principal: Principal, document: object
) -> Claim | None:
    """The claim that this request makes; None when the endpoint or the caller does not use keys. Unreadable
    `idempotency_key_required` where the endpoint insists on one."""
    if not endpoint.idempotent:
        return None
    raw = incoming.headers.get("idempotency-key")
    if raw is None and endpoint.key_required:
        raise Unreadable("the header Idempotency-Key is required", code="idempotency_key_required")
    if raw is None:
        return None
    return Claim(
        org_id=principal.org_id,
        operation=f"{endpoint.method} {endpoint.path}",
        key=_checked(raw),
        request_hash=_request_hash(endpoint, incoming, principal, document),
        ledger=endpoint.ledger,
    )


def check_same_request(claim: Claim, stored: StoredAnswer) -> None:
    """The same key names the same intention: with another request under it, nothing is done."""
    if not hmac.compare_digest(claim.request_hash, stored.request_hash):
        raise Conflict("this Idempotency-Key was used for another request", code="idempotency_key_reused")


def tell_replay(body: bytes, *, replayed: bool) -> bytes:
    """An answer, a JSON object with members, and last among them whether it is a replay. What is stored is the answer
    without that member, so that all else is the same bytes each time."""
    assert body.endswith(b"}"), "only an object has members"
    assert body != b"{}", "told beside other members"
    return body[:-1] + (b',"replayed":true}' if replayed else b',"replayed":false}')


def _checked(raw: str) -> str:
    try:
        key = raw.encode("latin-1").decode()
    except UnicodeDecodeError:
        key = ""
    if not key.strip() or len(key.encode()) > MAX_KEY_BYTES or not is_clean(key):
        raise Unreadable(
            f"Idempotency-Key must be 1 to {MAX_KEY_BYTES} bytes of printable UTF-8",
            code="invalid_idempotency_key",
        )
    return key


def _request_hash(endpoint: Endpoint, incoming: Incoming, principal: Principal, document: object) -> bytes:
    # The kind of key belongs to the request: what a secret key was answered is not for a publishable one.
    body = None if document is UNSET else document
    parts = [principal.kind.value, endpoint.method, incoming.path, incoming.query.decode("latin-1"), body]
    return hashlib.sha256(json.canonical(parts)).digest()
