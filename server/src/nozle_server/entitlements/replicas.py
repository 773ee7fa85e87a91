"""Holds for replicas: what a process that decides by snapshots may give away while it is cut off is taken in advance."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.credits import book_store, system_store
from nozle_server.customers import store as customers_store
from nozle_server.entitlements import replica_store
from nozle_server.entitlements.replica_promises import Asked, Renewal, Report, renew
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx


async def renew_holds(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer: str,
    replica: str,
    snapshot_id: UUID,
    wanted: Mapping[str, Decimal],
    report: Report,
    lasting: timedelta,
    now: datetime,
    real_now: datetime,
) -> Renewal:
    """Settle a replica's holds with what it reports, and hold what is `wanted`, as far as there is any, for `lasting` at
    least and twice that at most. What an older snapshot promised that the replica may still use stays held.

    A report is on the snapshot that was given out last; or again on the one before, where the replica never got the last:
    then only what is more than it said before is taken. On any other nothing is. An unknown customer has nothing to
    hold. Locks the customer, then its accounts.
    """
    found = await customers_store.lock(tx, org_id, customer)
    if found is None:
        return Renewal()
    known = await replica_store.list_holds(tx, org_id, found.id, replica)
    if not known and not wanted:
        return Renewal()
    accounts = await _accounts(tx, org_id, customer, wanted)
    ids = {*accounts.values(), *(one.account_id for one in known)}
    books = {book.account.id: book for book in await book_store.lock(tx, org_id, ids)} if ids else {}
    renewal = renew(books, known, Asked(snapshot_id, wanted, accounts, lasting), report, now)
    await book_store.save(tx, bus, list(books.values()))
    await replica_store.replace_holds(tx, org_id, found.id, replica, renewal.standing, real_now)
    return renewal


async def _accounts(tx: Tx, org_id: UUID, customer: str, wanted: Mapping[str, Decimal]) -> dict[str, UUID]:
    """The account that each feature is paid from; of a customer without one there is nothing to hold."""
    systems = await system_store.get_systems(tx, org_id)
    features = sorted(wanted)
    found = await book_store.find_account_ids(
        tx, org_id, [(customer, systems.choose(None, feature)) for feature in features]
    )
    return {
        feature: account_id
        for feature, (_, account_id) in zip(features, found, strict=True)
        if account_id is not None
    }
