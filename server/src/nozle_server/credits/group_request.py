"""What is asked of the group commit, and what it is answered."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from nozle_server.core.errors import Unavailable
from nozle_server.credits.book import Book
from nozle_server.credits.system_store import Systems
from nozle_server.infra.database import Tx
from nozle_server.infra.idempotency import Claim

MAX_BATCH = 512
DEADLINE_S = 10.0

AccountKey = tuple[str, str]
"""The merchant's id of a customer, and a credit system."""


class Answer(Struct, frozen=True, gc=False):
    """What a request is answered, already encoded: it is kept with the request's key before anyone sees it."""

    status: int
    body: bytes
    replayed: bool = False


@dataclass(slots=True, eq=False)
class Request:
    """One thing to be decided over one account of a customer, by the merchant's id: that of the `credit_system`, or
    where none is named that of the system which the label `feature` belongs to, else the default one.

    `decide` is told the book and the time, or no book where the customer never had credits; it may refuse by raising
    before it has changed anything. `encode` makes the answer of what it decided. `entity` is the merchant's id of the
    entity that it is about. `also` runs in the same transaction, after the decision and before the commit; `before`, which
    comes with it, ahead of the account's lock, and holds what is always held before an account.
    """

    org_id: UUID
    customer: str
    decide: Callable[[Book | None, datetime], Any]
    encode: Callable[[Any], Answer]
    received_at: datetime
    credit_system: str | None = None
    feature: str | None = None
    entity: str | None = None
    claim: Claim | None = None
    also: Callable[[Tx, Any], Awaitable[None]] | None = None
    before: Callable[[Tx], Awaitable[None]] | None = None
    done: "asyncio.Future[Answer]" = field(init=False)
    account: AccountKey = field(init=False)
    rounds: int = field(init=False, default=0)
    place: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()

    def route(self, systems: Systems) -> None:
        """Settle which account it is. NotFound `credit_system_not_found`."""
        self.account = self.customer, systems.choose(self.credit_system, self.feature)

    def resolve(self, outcome: "Answer | BaseException") -> None:
        """Answer whoever asked, unless that was done or nobody waits any more."""
        if self.done.done():
            return
        if isinstance(outcome, Answer):
            self.done.set_result(outcome)
        else:
            self.done.set_exception(outcome)


def as_refusal(fault: Exception) -> Exception:
    if isinstance(fault, TimeoutError):
        return Unavailable("the database takes too long, try again", code="database_unavailable")
    return fault
