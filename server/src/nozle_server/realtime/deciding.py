"""Decide a customer's features anew, and find what differs from what was told.

The one place where realtime asks `can()`: another way to decide changes this file alone. Deciding for a customer happens
under the lock of its channel, after everything that was committed before: of two processes that hear the same news, the
second finds it told.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.core import json
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.queries import Decided, Question, decide_question
from nozle_server.entitlements.snapshot import CustomerSnapshot
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.infra.database import Tx
from nozle_server.realtime import store
from nozle_server.realtime.channels import name_of
from nozle_server.realtime.flips import Told, Urgency, message, urgency
from nozle_server.realtime.instants import next_instant
from nozle_server.realtime.model import Channel, Position
from nozle_server.realtime.store import Overview


async def decide_features(
    snapshot: CustomerSnapshot, economics: Economics, *, features: list[str], real_now: datetime
) -> dict[str, Decided]:
    """The decision of `can()` for each feature, without unit economics."""
    decided = {}
    for feature in features:
        question = Question(snapshot.external_id, feature, {})
        decided[feature] = await decide_question(
            snapshot, economics, question, with_costs=False, real_now=real_now
        )
    return decided


@dataclass(frozen=True, slots=True)
class Differences:
    """What a look at a customer found, in its channel `name`, which is locked and stands at `position`.

    `before` and `after` are what was told and what holds; `telling` is what has to be told now, `data` the same as
    publications, and `waiting` says that something may be told a little later. `next_at` is when time alone may change
    something, and `by_figures` that it was decided by figures which move without news. `is_new`: nobody has ever joined the
    channel.
    """

    name: str
    position: Position
    is_new: bool
    before: dict[str, Told]
    after: dict[str, Told]
    telling: dict[str, Told]
    data: list[bytes]
    waiting: bool
    next_at: datetime | None
    by_figures: bool


async def find_differences(
    tx: Tx, economics: Economics, *, org_id: UUID, customer: str, real_now: datetime
) -> Differences:
    """Decide the customer's features; the channel is locked from here on."""
    name = name_of(Channel(org_id, customer))
    position, made = await store.lock_channel(tx, org_id, name)
    before = await store.read_told(tx, org_id, name)
    view = await store.overview(tx, org_id, customer)
    features = sorted({*view.codes, *before})[: store.MAX_FEATURES]
    # Read here and not taken from the cache: what was committed before the lock is what is told.
    snapshot = await read_customer(tx, await read_organization(tx, org_id), customer)
    decided = await decide_features(snapshot, economics.within(tx), features=features, real_now=real_now)
    after = {feature: Told.of(one.decision, real_now) for feature, one in decided.items()}
    urgencies = {feature: urgency(before.get(feature), one) for feature, one in after.items()}
    telling = {feature: after[feature] for feature, how in urgencies.items() if how is Urgency.NOW}
    return Differences(
        name,
        position,
        is_new=made and not before,
        before=before,
        after=after,
        telling=telling,
        data=[_publication(customer, feature, told, view, real_now) for feature, told in telling.items()],
        waiting=Urgency.SOON in urgencies.values(),
        next_at=_look_at(snapshot, real_now),
        by_figures=any(one.by_figures for one in decided.values()),
    )


def _publication(customer: str, feature: str, told: Told, view: Overview, real_now: datetime) -> bytes:
    return json.dumps(
        message(
            customer,
            feature,
            told,
            plan=view.plan,
            subscription_status=view.subscription_status,
            at=view.test_now or real_now,
        )
    )


def _look_at(snapshot: CustomerSnapshot, real_now: datetime) -> datetime | None:
    """When time alone may change a decision; an organization on a test clock tells of it when that is turned."""
    if snapshot.organization.test_now is not None:
        return None
    instants = [
        next_instant(one.subscription, one.version.usage_interval, real_now) for one in snapshot.subscriptions
    ]
    return min((one for one in instants if one is not None), default=None)
