"""What a replica is promised: how each of its holds is renewed, so that whatever answer is lost, the promise that the
replica goes on by is still held. Pure, over books.

A replica uses the last snapshot that it got. Which one that is, it says with the next call: until then what is held is not
lowered below what an older snapshot promises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.core.rounding import EXACT
from nozle_server.credits import setting_aside
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Hold
from nozle_server.credits.setting_aside import Promise, Taken

_NO_REPORT: tuple[UUID | None, Decimal] = (None, ZERO)


@dataclass(frozen=True, slots=True)
class ReplicaHold:
    """A hold for one feature, the account it is of, and the snapshot that last told of it, which `promised` as much of it;
    `reported` is all that was taken for the snapshot `reported_id`, the last that was reported on."""

    feature: str
    hold_id: UUID
    account_id: UUID
    snapshot_id: UUID
    promised: Decimal
    reported_id: UUID | None = None
    reported: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Report:
    """All that a replica says it gave away under the snapshot `previous`, by feature; None: it has no snapshot."""

    previous: UUID | None = None
    spent: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the snapshot `snapshot_id` is to promise, by feature, for `lasting`; and which account each is paid from."""

    snapshot_id: UUID
    wanted: Mapping[str, Decimal]
    accounts: Mapping[str, UUID]
    lasting: timedelta


@dataclass(frozen=True, slots=True)
class Promised:
    """How many credits a snapshot promises, of a hold that may be of more."""

    hold_id: UUID
    credits: Decimal
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Renewal:
    """What is promised now, what was taken of what had been given away, and which holds stand behind it, by feature."""

    promised: Mapping[str, Promised] = field(default_factory=dict)
    taken: Mapping[str, Taken] = field(default_factory=dict)
    standing: Sequence[ReplicaHold] = ()


def renew(
    books: Mapping[UUID, Book], known: Sequence[ReplicaHold], asked: Asked, report: Report, now: datetime
) -> Renewal:
    """Renew one feature's hold after the other, each ended and taken anew before the next is touched: who wants more gets
    of what is free, never of what another was promised."""
    taken: dict[str, Taken] = {}
    standing: dict[str, ReplicaHold] = {}
    promised: dict[str, Promised] = {}

    def stand(feature: str, hold: Hold, account_id: UUID, reported: tuple[UUID | None, Decimal]) -> None:
        # What another account is to pay is not promised of this one.
        wanted = asked.wanted.get(feature, ZERO) if asked.accounts.get(feature) == account_id else ZERO
        credits = min(wanted, hold.amount)
        standing[feature] = ReplicaHold(feature, hold.id, account_id, asked.snapshot_id, credits, *reported)
        if credits:
            promised[feature] = Promised(hold.id, credits, hold.expires_at)

    held = {one.feature: setting_aside.find(books[one.account_id], one.hold_id, now) for one in known}
    # What is owed of holds that are over is paid before others take more.
    for one in sorted(known, key=lambda one: (held[one.feature] is not None, one.feature)):
        book, hold = books[one.account_id], held[one.feature]
        spent, reported = _newly_spent(one, report)
        promise = _promise(one, hold, spent, asked, report, now)
        if hold is not None and setting_aside.stands(book, one.hold_id, spent, promise, now):
            stand(one.feature, hold, one.account_id, reported)
            continue
        ended = setting_aside.take(book, one.hold_id, one.feature, spent, now)
        if spent:
            taken[one.feature] = ended
        anew = None if promise is None else setting_aside.set_aside(book, promise, now)
        if anew is not None:
            stand(one.feature, anew, one.account_id, reported)
    for feature in sorted(asked.accounts.keys() - standing.keys()):
        account_id = asked.accounts[feature]
        promise = Promise(feature, asked.wanted[feature], now + asked.lasting, now + 2 * asked.lasting)
        anew = setting_aside.set_aside(books[account_id], promise, now)
        if anew is not None:
            stand(feature, anew, account_id, _NO_REPORT)
    return Renewal(promised, taken, [standing[feature] for feature in sorted(standing)])


def _promise(
    one: ReplicaHold, hold: Hold | None, spent: Decimal, asked: Asked, report: Report, now: datetime
) -> Promise | None:
    """What is to be held of a feature's account: what is wanted of it, and no less than an older snapshot may still give
    away, for as long as that."""
    wanted = (
        asked.wanted.get(one.feature, ZERO) if asked.accounts.get(one.feature) == one.account_id else ZERO
    )
    live = _live(one, ZERO if hold is None else hold.amount, spent, report)
    amount = max(wanted, live)
    if not amount:
        return None
    # A hold outlasts every snapshot that told of it: only for a new one it must last longer.
    needed_until = now + asked.lasting if wanted else now
    expires_at = now + 2 * asked.lasting
    if live and hold is not None:
        expires_at = max(expires_at, hold.expires_at)
    return Promise(one.feature, amount, needed_until, expires_at)


def _live(one: ReplicaHold, held: Decimal, spent: Decimal, report: Report) -> Decimal:
    """What the replica may still give away by what it has: who has the last snapshot, by that; who has another, up to all
    that is held; who has none, nothing."""
    if report.previous is None:
        return ZERO
    most = min(one.promised, held) if report.previous == one.snapshot_id else held
    return max(ZERO, EXACT.subtract(most, spent))


def _newly_spent(one: ReplicaHold, report: Report) -> tuple[Decimal, tuple[UUID | None, Decimal]]:
    """What of a report was not taken before; and which snapshot was reported on then, with all that was taken for it."""
    told = report.spent.get(one.feature, ZERO)
    if report.previous == one.snapshot_id:
        return told, (report.previous, told)
    if report.previous is not None and report.previous == one.reported_id:
        more = max(ZERO, EXACT.subtract(told, one.reported))
        return more, (report.previous, EXACT.add(one.reported, more))
    return ZERO, _NO_REPORT
