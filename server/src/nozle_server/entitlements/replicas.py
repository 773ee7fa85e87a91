"""Holds for replicas: what a process that decides by snapshots may give away while it is cut off is taken in advance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.core.rounding import EXACT
from nozle_server.credits import book_store, setting_aside, system_store
from nozle_server.credits.model import ZERO, Hold
from nozle_server.credits.setting_aside import Promise, Taken
from nozle_server.customers import store as customers_store
from nozle_server.entitlements import replica_store
from nozle_server.entitlements.replica_store import ReplicaHold
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx

_NO_REPORT: tuple[UUID | None, Decimal] = (None, ZERO)


@dataclass(frozen=True, slots=True)
class Report:
    """All that a replica says it gave away under the snapshot `previous`, by feature."""

    previous: UUID | None = None
    spent: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What is held now, and what was taken of what had been given away, by feature."""

    holds: Mapping[str, Hold] = field(default_factory=dict)
    taken: Mapping[str, Taken] = field(default_factory=dict)


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
    """Settle a replica's holds with what it reports, release the others, and hold anew what is `wanted`, as far as there is
    any, for `lasting` at least and twice that at most.

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
    promises = {
        feature: Promise(feature, amount, now + lasting, now + 2 * lasting)
        for feature, amount in wanted.items()
    }
    holds: dict[str, Hold] = {}
    taken: dict[str, Taken] = {}
    reported: dict[str, tuple[UUID | None, Decimal]] = {}
    for one in known:
        book = books[one.account_id]
        spent, reported[one.feature] = _newly_spent(one, report)
        promise = promises.get(one.feature) if accounts.get(one.feature) == one.account_id else None
        if setting_aside.stands(book, one.hold_id, spent, promise, now):
            holds[one.feature] = book.holds[one.hold_id]
            continue
        ended = setting_aside.take(book, one.hold_id, one.feature, spent, now)
        if spent:
            taken[one.feature] = ended
    for feature in sorted(accounts.keys() - holds.keys()):
        held = setting_aside.set_aside(books[accounts[feature]], promises[feature], now)
        if held is not None:
            holds[feature] = held
    await book_store.save(tx, bus, list(books.values()))
    standing = [
        ReplicaHold(feature, one.id, accounts[feature], snapshot_id, *reported.get(feature, _NO_REPORT))
        for feature, one in sorted(holds.items())
    ]
    await replica_store.replace_holds(tx, org_id, found.id, replica, standing, real_now)
    return Renewal(holds, taken)


def _newly_spent(one: ReplicaHold, report: Report) -> tuple[Decimal, tuple[UUID | None, Decimal]]:
    """What of a report was not taken before; and which snapshot was reported on then, with all that was taken for it."""
    told = report.spent.get(one.feature, ZERO)
    if report.previous == one.snapshot_id:
        return told, (report.previous, told)
    if report.previous is not None and report.previous == one.reported_id:
        more = max(ZERO, EXACT.subtract(told, one.reported))
        return more, (report.previous, EXACT.add(one.reported, more))
    return ZERO, _NO_REPORT


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
