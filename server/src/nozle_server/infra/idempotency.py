"""Idempotency keys: the caller's name for one intended effect, and the answer it got.

A claim is a row inserted in the transaction of the effect, so the unique key decides who was first: whoever
comes second waits at the insert until the first commits (and then reads its answer) or rolls back (and then
goes first).
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.core.errors import Conflict, Unavailable
from nozle_server.infra.database import TakenMeanwhile, Tx


@dataclass(frozen=True, slots=True)
class Claim:
    """One use of a key: whose, for which operation, for which request. `ledger` keys are kept for ever."""

    org_id: UUID
    operation: str
    key: str
    request_hash: bytes
    ledger: bool


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first call with a key was, and what it was answered."""

    request_hash: bytes
    status: int
    response: bytes


async def claim(tx: Tx, claim: Claim, real_now: datetime) -> StoredAnswer | None:
    """Take the key for this transaction: None; or the answer of the call that had it before."""
    inserted = await tx.fetchval(
        """
        insert into idempotency_keys (org_id, operation, key, request_hash, ledger, created_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (org_id, operation, key) do nothing
        returning true
        """,
        claim.org_id,
        claim.operation,
        claim.key,
        claim.request_hash,
        claim.ledger,
        real_now,
    )
    if inserted:
        return None
    row = await tx.fetchrow(
        """
        select request_hash, status, response from idempotency_keys
        where org_id = $1 and operation = $2 and key = $3
        """,
        claim.org_id,
        claim.operation,
        claim.key,
    )
    if row is None:  # pruned between the two statements
        raise Unavailable("the idempotency key has just expired, try again", code="idempotency_key_expired")
    assert row["response"] is not None, "a committed claim has its answer"
    return StoredAnswer(row["request_hash"], row["status"], row["response"])


async def store_answer(tx: Tx, claim: Claim, *, status: int, response: bytes) -> None:
    """Keep the answer beside the claim, in the transaction that made it true."""
    await tx.execute(
        """
        update idempotency_keys set status = $4, response = $5
        where org_id = $1 and operation = $2 and key = $3
        """,
        claim.org_id,
        claim.operation,
        claim.key,
        status,
        response,
    )


async def find_answer(tx: Tx, claim: Claim) -> StoredAnswer | None:
    """The answer of the call that had the key before; None when nobody had. For callers that keep the answer by
    `keep_answer` at the end of the same transaction, having kept others out by a lock. Conflict for another request."""
    row = await tx.fetchrow(
        """select request_hash, status, response from idempotency_keys
           where org_id = $1 and operation = $2 and key = $3""",
        claim.org_id,
        claim.operation,
        claim.key,
    )
    if row is None:
        return None
    stored = StoredAnswer(row["request_hash"], row["status"], row["response"])
    check_same_request(claim, stored)
    return stored


async def keep_answer(tx: Tx, claim: Claim, *, status: int, response: bytes, real_now: datetime) -> None:
    """Keep the answer under its key; TakenMeanwhile when somebody else's has just been."""
    kept = await tx.fetchval(
        """
        insert into idempotency_keys (org_id, operation, key, request_hash, status, response, ledger, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (org_id, operation, key) do nothing
        returning true
        """,
        claim.org_id,
        claim.operation,
        claim.key,
        claim.request_hash,
        status,
        response,
        claim.ledger,
        real_now,
    )
    if not kept:
        raise TakenMeanwhile


def check_same_request(claim: Claim, stored: StoredAnswer) -> None:
    """The same key names the same intention: Conflict for another request under it."""
    if not hmac.compare_digest(claim.request_hash, stored.request_hash):
        raise Conflict("this Idempotency-Key was used for another request", code="idempotency_key_reused")
