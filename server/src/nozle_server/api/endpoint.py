"""What an endpoint is: one declared row, from which routing, authorization, parsing, OpenAPI and tests all follow.

A route module under `api/routes/` holds handlers and a tuple `ENDPOINTS`; `api/table.py` lists the modules. A handler
takes a `Call` and returns what goes out as JSON (dicts, lists, Decimals, instants), or a `Reply` when it has a status
or headers of its own. It runs inside one database transaction that the edge opened and commits.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from nozle_server.api.answer import Validity
from nozle_server.core.fields import Amount
from nozle_server.identity.customer_sessions import session_required
from nozle_server.identity.model import CustomerSession, Principal
from nozle_server.infra.idempotency import Claim

if TYPE_CHECKING:
    from nozle_server.bootstrap import Services
    from nozle_server.infra.database import Tx


__all__ = [
    "BOTH",
    "CORE",
    "SEED",
    "Amount",
    "Call",
    "CustomerData",
    "Endpoint",
    "Example",
    "Handler",
    "Mount",
    "Reply",
    "Scope",
]


class Scope(Enum):
    """Who may call: nobody needs a key, any key (`pk_` or `sk_`), or a secret key only (contract 1.0, Decision 7)."""

    PUBLIC = "public"
    ANY_KEY = "any_key"
    SECRET = "secret"


class Mount(Enum):
    """Under which prefix an endpoint answers, and with that in which shape its errors are written."""

    ROOT = ""
    SEED = "/api/v1"
    ENGINE = "/engine/api/v1"
    CORE = "/core/api/v1"


SEED = (Mount.SEED, Mount.ENGINE)
CORE = (Mount.CORE,)
BOTH = (Mount.SEED, Mount.ENGINE, Mount.CORE)


@dataclass(frozen=True, slots=True)
class Example:
    """One recorded exchange, shown in the OpenAPI and the reading view."""

    request: object = None
    response: object = None


@dataclass(frozen=True, slots=True)
class CustomerData:
    """Marks an endpoint that shows or changes one customer's data, for `publishable_key_access = customer_session`.

    `where` is "query", "path" or "body", `name` the field that holds the external customer id, `session_scope` what
    the customer session must have been granted. Where the request names the customer only indirectly (a subscription's
    id), `where` is "handler", and the handler calls `call.require_customer(customer_id)` once it knows.
    """

    where: str
    name: str
    session_scope: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the API.

    `path` has `{name}` parameters, which reach the handler percent-decoded. `body` and `query` are msgspec Structs;
    `body_aliases` maps other accepted spellings to a field's name (contract, appendix C). When the body holds the key
    `wrapped_key`, it is read as `wrapped_body` instead (the Core form on a shared path). `reply_schema` is a type or a
    JSON schema; `errors` are the statuses it may answer besides success (401, 403 and 503 are added by scope).
    `idempotent` lets the caller send an Idempotency-Key, `key_required` refuses a call without one; `ledger` keeps
    that key for ever instead of 7 days. With `tells_replay` the answer, an object, ends in a member `replayed`, which
    the edge writes: the one thing in which a replay differs from the first answer.
    `catalog` endpoints stay open to publishable keys under `publishable_key_access = catalog_only`.
    A GET runs outside a transaction, each statement seeing what is committed; with `snapshot` all its statements see
    the database as it was at one moment. With `own_clock` the handler reads the organization's time together with its
    facts, which saves the hot paths a round trip; `call.now` is not there then.
    With `own_claims` and without `transaction` the handler writes `call.claim` and the answer's bytes itself, in the
    transaction that makes the answer true, and a `Reply` with `raw` brings them.
    `lane` lets plain requests skip the framework (`api/lane.py`): the same answers, sooner.
    `one_at_a_time` names where the external ids of customers stand whose accounts it locks, as ("path" or "body", field):
    of a process's calls for one customer one at a time takes a connection.
    `when_down` is for an endpoint that tells about the database: while that is down, a key known a moment ago still
    counts, and the 503 for any other key has these members beside the error.
    """

    method: str
    path: str
    handler: "Callable[[Call], Awaitable[object]]"
    scope: Scope
    summary: str
    tag: str
    mounts: tuple[Mount, ...] = SEED
    description: str = ""
    body: type[msgspec.Struct] | None = None
    body_optional: bool = False
    wrapped_key: str | None = None
    wrapped_body: type[msgspec.Struct] | None = None
    body_aliases: Mapping[str, str] = field(default_factory=dict)
    query: type[msgspec.Struct] | None = None
    query_aliases: Mapping[str, str] = field(default_factory=dict)
    reply_schema: object = None
    media_type: str = "application/json"
    status: int = 200
    errors: tuple[int, ...] = ()
    example: Example = Example()
    idempotent: bool = False
    key_required: bool = False
    tells_replay: bool = False
    ledger: bool = False
    customer_data: CustomerData | None = None
    catalog: bool = False
    transaction: bool = True
    snapshot: bool = False
    own_clock: bool = False
    own_claims: bool = False
    lane: bool = False
    one_at_a_time: tuple[tuple[str, str], ...] = ()
    when_down: Mapping[str, object] | None = None


@dataclass(slots=True)
class Call:
    """One request as its handler sees it: who asks, what, at what time, in which transaction.

    `now` is the organization's time (its test clock, else real time). `tx` is absent when the endpoint declares
    `transaction=False`. `principal` is absent on public endpoints. `claim` is the caller's use of an idempotency key,
    which concerns the handlers of endpoints with `own_claims` alone.
    """

    endpoint: Endpoint
    mount: Mount
    services: "Services"
    request_id: str
    path: Mapping[str, str]
    headers: Mapping[str, str]
    received_at: datetime
    _principal: Principal | None = None
    _tx: "Tx | None" = None
    _now: datetime | None = None
    body: Any = None
    query: Any = None
    client: str | None = None
    claim: Claim | None = None
    _session: CustomerSession | None = None
    _customer_required: bool = False

    def require_customer(self, customer_id: UUID) -> None:
        """Refuse a caller whose customer session is another customer's. For endpoints with `where="handler"`."""
        self._customer_required = True
        if self._session is not None and self._session.customer_id != customer_id:
            raise session_required()

    @property
    def principal(self) -> Principal:
        assert self._principal is not None, "public endpoints have no principal"
        return self._principal

    @property
    def org_id(self) -> UUID:
        return self.principal.org_id

    @property
    def tx(self) -> "Tx":
        assert self._tx is not None, "this endpoint declares transaction=False"
        return self._tx

    @property
    def now(self) -> datetime:
        assert self._now is not None, "public endpoints have no organization and so no time of one"
        return self._now


class Reply(msgspec.Struct, frozen=True):
    """An answer with a status, headers or bytes of its own, or with a `validity` for which it may be given again."""

    body: object = None
    status: int | None = None
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    raw: bytes | None = None
    validity: Validity | None = None


Handler = Callable[[Call], Awaitable[object]]
