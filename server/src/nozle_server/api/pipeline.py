"""The way of one request through one endpoint: key, path, body, query, transaction, handler, answer.

Everything that can be refused without the database is refused before a connection is taken, and everything is
read before the transaction begins, because `Database.run` may call the handler again after a deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from nozle_server.api.answer import Answer, Validity, from_error
from nozle_server.api.auth import (
    authenticate,
    check_customer_session,
    find_key_standing,
    needs_customer_session,
)
from nozle_server.api.body import read_body
from nozle_server.api.endpoint import Call, Endpoint, Mount, Reply
from nozle_server.api.errors import Unreadable
from nozle_server.api.idempotency import REPLAYED, check_same_request, read_claim, tell_replay
from nozle_server.api.incoming import Incoming, decode_parameter
from nozle_server.api.parse import BodyReader, QueryReader
from nozle_server.api.strict_json import read_json
from nozle_server.core import json
from nozle_server.core.errors import Unavailable
from nozle_server.identity.model import Mode
from nozle_server.identity.queries import get_time
from nozle_server.infra import idempotency

if TYPE_CHECKING:
    from nozle_server.bootstrap import Services
    from nozle_server.infra.database import Tx

# What a request may take of the database in all. A client that gave up earlier cannot know whether it was done; one that
# is told 503 may send it again.
DEADLINE_S = 10.0


class Pipeline:
    """One endpoint at one mount. What its types imply is worked out here, once."""

    def __init__(
        self, endpoint: Endpoint, mount: Mount, services: Services, parameters: Mapping[str, str]
    ) -> None:
        """`parameters` maps the router's names of the path's parameters to the endpoint's."""
        self._endpoint = endpoint
        self._mount = mount
        self._services = services
        self._parameters = parameters
        self._route = mount.value + endpoint.path
        self._body = BodyReader(endpoint.body, endpoint.body_aliases) if endpoint.body else None
        self._wrapped = BodyReader(endpoint.wrapped_body, {}) if endpoint.wrapped_body else None
        self._query = QueryReader(endpoint.query, endpoint.query_aliases) if endpoint.query else None

    async def answer(self, incoming: Incoming, parameters: Mapping[str, str]) -> Answer:
        """The answer to a request, also where something stops it; `parameters` by the router's names.

        Knows nothing of the server or the framework that calls it: every way to an endpoint ends here.
        """
        incoming.route = self._route
        try:
            return await self._answer(incoming, parameters)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets an answer
            return from_error(error, incoming)

    async def _answer(self, incoming: Incoming, parameters: Mapping[str, str]) -> Answer:
        endpoint, services = self._endpoint, self._services
        principal = await authenticate(endpoint, incoming, services.keys)
        if principal is not None:
            incoming.org_id = principal.org_id
        document = await self._read_document(incoming)
        call = Call(
            endpoint=endpoint,
            mount=self._mount,
            services=services,
            request_id=incoming.request_id,
            path={self._parameters[name]: decode_parameter(raw) for name, raw in parameters.items()},
            headers=incoming.headers,
            received_at=services.clock.now(),
            _principal=principal,
            body=self._read_body(document),
            query=self._query.read(incoming.query) if self._query else None,
            client=incoming.client,
        )
        if endpoint.idempotent and principal is not None:
            call.claim = read_claim(endpoint, incoming, principal, document)
        if endpoint.one_at_a_time:
            async with services.turns.take(_customers(call), call.org_id):
                return await self._in_database(call)
        if endpoint.transaction:
            return await self._in_database(call)
        if needs_customer_session(call):
            await self._check_session(call)
        answer = self._encode(await endpoint.handler(call))
        if answer.validity is not None:
            answer = answer._replace(validity=self._validity(call, answer.validity))
        return self._tell(answer, replayed=answer.headers is REPLAYED)

    async def _check_session(self, call: Call) -> None:
        """Before a handler that has no transaction, so in none of its own: its connection is given back."""
        try:
            async with asyncio.timeout(DEADLINE_S), self._services.database.connection() as call._tx:
                await check_customer_session(call)
        except TimeoutError:
            raise Unavailable("the database takes too long, try again", code="database_unavailable") from None
        finally:
            call._tx = None

    def _validity(self, call: Call, validity: Validity) -> Validity | None:
        """What the handler says, while the key is as good as it was; sessions are asked for each time."""
        key = find_key_standing(call, self._services.keys)
        if key is None or call._session is not None:
            return None
        return Validity((*validity.standings, key), validity.ends_at)

    async def _in_database(self, call: Call) -> Answer:
        database = self._services.database
        if self._endpoint.method != "GET":
            return await database.run(partial(self._run, call), deadline_s=DEADLINE_S)
        try:
            async with asyncio.timeout(DEADLINE_S):
                async with database.snapshot() if self._endpoint.snapshot else database.connection() as tx:
                    return await self._run(call, tx)
        except TimeoutError:
            raise Unavailable("the database takes too long, try again", code="database_unavailable") from None

    async def _read_document(self, incoming: Incoming) -> object:
        """The body as plain values; UNSET when there is none or the endpoint takes none (null is a body)."""
        if self._body is None:
            return UNSET
        raw = await read_body(incoming, self._services.settings.max_body_bytes)
        if raw:
            return read_json(raw)
        if self._endpoint.body_optional:
            return UNSET
        raise Unreadable("a JSON body is required", code="body_required")

    def _read_body(self, document: object) -> Any:
        if self._body is None or document is UNSET:
            return None
        if self._wrapped and isinstance(document, dict) and self._endpoint.wrapped_key in document:
            return self._wrapped.read(document)
        return self._body.read(document)

    async def _run(self, call: Call, tx: Tx) -> Answer:
        """The part inside the transaction. May run again, with another `tx`."""
        call._tx = tx
        if call._principal is not None:
            if call.principal.mode is Mode.LIVE:
                call._now = call.received_at
            elif not self._endpoint.own_clock:
                call._now = await get_time(tx, call.org_id, call.received_at)
            await check_customer_session(call)
        claim = call.claim
        if claim is None:
            return self._tell(await self._handle(call), replayed=False)
        stored = await idempotency.claim(tx, claim, call.received_at)
        if stored is not None:
            check_same_request(claim, stored)
            replay = Answer(stored.status, stored.response, REPLAYED, self._endpoint.media_type)
            return self._tell(replay, replayed=True)
        answer = await self._handle(call)
        await idempotency.store_answer(tx, claim, status=answer.status, response=answer.body)
        return self._tell(answer, replayed=False)

    def _tell(self, answer: Answer, *, replayed: bool) -> Answer:
        if not self._endpoint.tells_replay:
            return answer
        return answer._replace(body=tell_replay(answer.body, replayed=replayed))

    async def _handle(self, call: Call) -> Answer:
        answer = self._encode(await self._endpoint.handler(call))
        assert answer.status < 400, "errors are raised, so that their transaction rolls back"
        assert call._session is None or call._customer_required, (
            "nobody compared the customer with the session's"
        )
        return answer

    def _encode(self, result: object) -> Answer:
        media_type = self._endpoint.media_type
        if not isinstance(result, Reply):
            return Answer(self._endpoint.status, json.dumps(result), media_type=media_type)
        body = result.raw if result.raw is not None else json.dumps(result.body)
        return Answer(
            result.status or self._endpoint.status, body, result.headers, media_type, result.validity
        )


def _customers(call: Call) -> list[str]:
    """The customers, as sent, whose accounts the call is going to lock."""
    return [
        call.path[name] if where == "path" else getattr(call.body, name)
        for where, name in call.endpoint.one_at_a_time
    ]
