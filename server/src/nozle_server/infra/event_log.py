"""The seam `EventLog`: where meter events become durable, each exactly once.

The first arrival of a `transaction_id` wins, whatever its timestamp; a repeat finds it. `append` returns when the
caller's transaction may commit; after that commit the events are durable and counted. A log outside the database can
be a second adapter later (scale-out), so nothing here may assume that the caller reads its own writes from `events`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from nozle_server.core import json
from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A meter event as it is stored: what was sent, and what it was resolved to. Immutable once stored."""

    id: UUID
    transaction_id: str
    occurred_at: datetime
    received_at: datetime
    code: str
    external_customer_id: str | None
    external_subscription_id: str | None
    customer_id: UUID | None
    subscription_id: UUID | None
    metric_id: UUID | None
    status: str
    reason: str | None
    quantity: Decimal | None
    unique_value: str | None
    model: str | None
    input_tokens: Decimal
    output_tokens: Decimal
    cost_cents: Decimal | None
    cost_model_id: UUID | None
    precise_total_amount_cents: Decimal | None
    properties: Mapping[str, Any]
    payload_hash: bytes = b""


class Outcome(Enum):
    """What became of an event: stored now, known already, or known with other content."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome for one event, and the event that is stored under its id."""

    outcome: Outcome
    event: EventRecord


class EventLog(Protocol):
    """Stores events once each."""

    async def append(self, tx: Tx, org_id: UUID, events: Sequence[EventRecord]) -> list[Appended]:
        """Store what is new; one answer for each event, in their order."""
        ...

    async def find(self, tx: Tx, org_id: UUID, transaction_id: str) -> EventRecord | None:
        """The event stored under an id."""
        ...


EVENT_COLUMNS = """e.id, e.transaction_id, e.occurred_at, e.received_at, e.code, e.external_customer_id,
    e.external_subscription_id, e.customer_id, e.subscription_id, e.metric_id, e.status, e.reason, e.quantity,
    e.unique_value, e.model,
    e.input_tokens, e.output_tokens, e.cost_cents, e.cost_model_id, e.precise_total_amount_cents, e.properties"""

# One statement claims the ids and writes the events behind the claims that won. Claims are taken in order of id, so
# that two batches with common ids wait for each other instead of dead-locking.
_APPEND = """
with input as (
    select * from unnest($2::text[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[],
        $8::text[], $9::uuid[], $10::uuid[], $11::uuid[], $12::text[], $13::text[], $14::numeric[], $15::text[],
        $16::text[], $17::numeric[], $18::uuid[], $19::numeric[], $20::text[], $21::bytea[], $22::numeric[],
        $23::numeric[])
    as t (transaction_id, id, occurred_at, received_at, code, external_customer_id, external_subscription_id,
        customer_id, subscription_id, metric_id, status, reason, quantity, unique_value, model, cost_cents,
        cost_model_id, precise_total_amount_cents, properties, payload_hash, input_tokens, output_tokens)
), claimed as (
    insert into event_ids (org_id, transaction_id, event_id, occurred_at, payload_hash)
    select $1, transaction_id, id, occurred_at, payload_hash from input order by transaction_id
    on conflict (org_id, transaction_id) do nothing
    returning transaction_id
), written as (
    insert into events (org_id, transaction_id, id, occurred_at, received_at, code, external_customer_id,
        external_subscription_id, customer_id, subscription_id, metric_id, status, reason, quantity, unique_value, model,
        cost_cents, cost_model_id, precise_total_amount_cents, properties, input_tokens, output_tokens)
    select $1, i.transaction_id, i.id, i.occurred_at, i.received_at, i.code, i.external_customer_id,
        i.external_subscription_id, i.customer_id, i.subscription_id, i.metric_id, i.status, i.reason, i.quantity,
        i.unique_value, i.model, i.cost_cents, i.cost_model_id, i.precise_total_amount_cents, i.properties::jsonb,
        i.input_tokens, i.output_tokens
    from input i join claimed using (transaction_id)
)
select transaction_id from claimed
"""


class PostgresEventLog:
    """The log is the database: the claim of the id and the event are one transaction with everything they cause."""

    async def append(self, tx: Tx, org_id: UUID, events: Sequence[EventRecord]) -> list[Appended]:
        first: dict[str, EventRecord] = {}
        for event in events:
            first.setdefault(event.transaction_id, event)
        stored = await self._insert(tx, org_id, list(first.values()))
        earlier = await self._find_many(tx, org_id, [one for one in first if one not in stored])
        answers = []
        for event in events:
            known = earlier.get(event.transaction_id)
            if event.transaction_id in stored and first[event.transaction_id] is event:
                answers.append(Appended(Outcome.STORED, event))
                continue
            original = first[event.transaction_id] if event.transaction_id in stored else known
            assert original is not None, "an id that is claimed has its event"
            same = event.payload_hash == original.payload_hash
            answers.append(Appended(Outcome.DUPLICATE if same else Outcome.CONFLICT, original))
        return answers

    async def find(self, tx: Tx, org_id: UUID, transaction_id: str) -> EventRecord | None:
        return (await self._find_many(tx, org_id, [transaction_id])).get(transaction_id)

    async def _insert(self, tx: Tx, org_id: UUID, events: Sequence[EventRecord]) -> set[str]:
        if not events:
            return set()
        rows = await tx.fetch(
            _APPEND,
            org_id,
            [e.transaction_id for e in events],
            [e.id for e in events],
            [e.occurred_at for e in events],
            [e.received_at for e in events],
            [e.code for e in events],
            [e.external_customer_id for e in events],
            [e.external_subscription_id for e in events],
            [e.customer_id for e in events],
            [e.subscription_id for e in events],
            [e.metric_id for e in events],
            [e.status for e in events],
            [e.reason for e in events],
            [e.quantity for e in events],
            [e.unique_value for e in events],
            [e.model for e in events],
            [e.cost_cents for e in events],
            [e.cost_model_id for e in events],
            [e.precise_total_amount_cents for e in events],
            [json.dumps(e.properties).decode() for e in events],
            [e.payload_hash for e in events],
            [e.input_tokens for e in events],
            [e.output_tokens for e in events],
        )
        return {row["transaction_id"] for row in rows}

    async def _find_many(
        self, tx: Tx, org_id: UUID, transaction_ids: Sequence[str]
    ) -> dict[str, EventRecord]:
        if not transaction_ids:
            return {}
        # In two steps: with the instants known as values, only their partitions are looked at.
        claims = await tx.fetch(
            "select transaction_id, event_id, occurred_at, payload_hash from event_ids"
            " where org_id = $1 and transaction_id = any($2)",
            org_id,
            list(transaction_ids),
        )
        rows = await tx.fetch(
            f"""select {EVENT_COLUMNS} from events e
                where e.org_id = $1 and e.occurred_at = any($2) and e.id = any($3)""",
            org_id,
            [claim["occurred_at"] for claim in claims],
            [claim["event_id"] for claim in claims],
        )
        hashes = {claim["transaction_id"]: claim["payload_hash"] for claim in claims}
        return {
            row["transaction_id"]: EventRecord(**dict(row), payload_hash=hashes[row["transaction_id"]])
            for row in rows
        }


def event_from_row(row: asyncpg.Record) -> EventRecord:
    """From a row with the columns of `events`; the payload hash is not among them."""
    return EventRecord(**dict(row))
