"""Use cases that only look at credits."""

from datetime import datetime
from decimal import Decimal, localcontext
from uuid import UUID

from nozle_server.core.rounding import EXACT
from nozle_server.credits import burndown, store
from nozle_server.credits.model import DEFAULT_CREDIT_SYSTEM, Balance, Entry
from nozle_server.infra.database import Tx


async def get_balance(
    tx: Tx, *, org_id: UUID, customer_id: UUID, now: datetime, credit_system: str = DEFAULT_CREDIT_SYSTEM
) -> Balance:
    """What the customer can spend at `now`: grants whose time is over do not count, whether written off yet or not."""
    account = await store.find_account(tx, org_id, customer_id, credit_system)
    if account is None:
        zero = Decimal(0)
        return Balance(zero, zero, zero, zero, None, now)
    available = burndown.available(await store.list_live_grants(tx, org_id, account.id), now)
    with localcontext(EXACT):
        # What has passed its time but is not written off yet has expired all the same.
        expired = account.granted - account.consumed - account.voided - available
    return Balance(available, account.granted, account.consumed, expired, account.id, now)


async def list_transactions(
    tx: Tx,
    *,
    org_id: UUID,
    customer_id: UUID,
    before: int | None,
    limit: int,
    credit_system: str = DEFAULT_CREDIT_SYSTEM,
) -> tuple[list[Entry], int | None]:
    """A page of an account's entries, newest first, and where the next page starts (None: there is none)."""
    account = await store.find_account(tx, org_id, customer_id, credit_system)
    if account is None:
        return [], None
    entries = await store.list_entries(tx, org_id, account.id, before=before, limit=limit + 1)
    if len(entries) <= limit:
        return entries, None
    return entries[:limit], entries[limit - 1].sequence
