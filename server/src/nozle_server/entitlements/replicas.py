"""Holds for replicas: what a process that decides by snapshots may give away while it is cut off is taken in advance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.credits import book_store, setting_aside, system_store
from nozle_server.credits.model import ZERO, Hold
from nozle_server.credits.setting_aside import Promise, Taken
from nozle_server.customers import store as customers_store
from nozle_server.entitlements import replica_store
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica says it gave away since the snapshot `previous`, by feature."""

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

    A report on another snapshot than the last is a repetition, or of a replica that shares its name: nothing is taken for
    it. An unknown customer has nothing to hold. Locks the customer, then its accounts.
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
    for one in known:
        book = books[one.account_id]
        told = one.snapshot_id == report.previous
        spent = report.spent.get(one.feature, ZERO) if told else ZERO
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
    await replica_store.replace_holds(
        tx,
        org_id,
        found.id,
        replica,
        {feature: one.id for feature, one in holds.items()},
        snapshot_id=snapshot_id,
        real_now=real_now,
    )
    return Renewal(holds, taken)


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
