"""Decide a customer's features anew, and publish what differs from what was told.

The one place where realtime asks `can()`: another way to decide (from a snapshot, all features at once) changes this file
alone. Deciding for a customer happens under the lock of its channel, after everything that was committed before: of two
processes that hear the same news, the second finds it told.
"""

from datetime import datetime
from uuid import UUID

from nozle_server.core import json
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.model import Decision
from nozle_server.entitlements.queries import Question, decide_question
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.infra.change_bus import Change, ChangeBus
from nozle_server.infra.database import Tx
from nozle_server.realtime import store
from nozle_server.realtime.channels import name_of
from nozle_server.realtime.flips import Told, Urgency, message, urgency
from nozle_server.realtime.model import REALTIME_PUBLISHED, Channel, Position
from nozle_server.realtime.store import Overview


async def decide_features(
    tx: Tx, economics: Economics, *, org_id: UUID, customer: str, features: list[str], real_now: datetime
) -> dict[str, Decision]:
    """The decision of `can()` for each feature, without unit economics; on facts as `tx` sees them."""
    snapshot = await read_customer(tx, await read_organization(tx, org_id), customer)
    decided = {}
    for feature in features:
        question = Question(customer, feature, {})
        one = await decide_question(snapshot, economics, question, with_costs=False, real_now=real_now)
        decided[feature] = one.decision
    return decided


class Refreshed:
    """What came of it: where the customer's channel stands, whether something waits to be told, and when to look again."""

    __slots__ = ("next_at", "position", "waiting")

    def __init__(self, position: Position, waiting: bool, next_at: datetime | None) -> None:
        self.position = position
        self.waiting = waiting
        self.next_at = next_at


async def refresh(
    tx: Tx,
    economics: Economics,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer: str,
    joining: bool,
    real_now: datetime,
) -> Refreshed:
    """Decide the customer's features and publish what differs, in its channel and in the organization's.

    The first to join a channel has yet to ask how things are, so that is only noted; later comers may have missed something.
    """
    name = name_of(Channel(org_id, customer))
    position, made = await store.lock_channel(tx, org_id, name)
    before = await store.read_told(tx, org_id, name)
    view = await store.overview(tx, org_id, customer, real_now)
    features = sorted({*view.codes, *before})[: store.MAX_FEATURES]
    decided = await decide_features(
        tx, economics, org_id=org_id, customer=customer, features=features, real_now=real_now
    )
    after = {feature: Told.of(decision, real_now) for feature, decision in decided.items()}
    if joining and made and not before:
        await store.write_told(tx, org_id, name, after)
        return Refreshed(position, False, _look_at(view))
    urgencies = {feature: urgency(before.get(feature), one) for feature, one in after.items()}
    telling = {feature: after[feature] for feature, how in urgencies.items() if how is Urgency.NOW}
    if telling:
        await store.write_told(tx, org_id, name, telling)
        position = await _publish(tx, bus, org_id, customer, name, position, telling, view, real_now)
    return Refreshed(position, Urgency.SOON in urgencies.values(), _look_at(view))


async def _publish(
    tx: Tx,
    bus: ChangeBus,
    org_id: UUID,
    customer: str,
    name: str,
    position: Position,
    telling: dict[str, Told],
    view: Overview,
    real_now: datetime,
) -> Position:
    data = [
        json.dumps(
            message(
                customer,
                feature,
                told,
                plan=view.plan,
                subscription_status=view.subscription_status,
                at=view.test_now or real_now,
            )
        )
        for feature, told in telling.items()
    ]
    reached = await _append(tx, bus, org_id, name, position, data)
    # After the customer's, always in this order.
    workspace = name_of(Channel(org_id, None))
    stands = await store.lock_existing_channel(tx, org_id, workspace)
    if stands is not None:
        await _append(tx, bus, org_id, workspace, stands, data)
    return reached


async def _append(
    tx: Tx, bus: ChangeBus, org_id: UUID, name: str, position: Position, data: list[bytes]
) -> Position:
    reached = await store.append(tx, org_id, name, position, data)
    payload = {
        "epoch": position.epoch,
        "position": position.offset + 1,
        "data": [text.decode() for text in data],
    }
    await bus.publish(tx, Change(org_id, REALTIME_PUBLISHED, name, payload))
    return reached


def _look_at(view: Overview) -> datetime | None:
    """When time alone may change a decision; an organization on a test clock tells of it when that is turned."""
    return None if view.test_now else view.next_at
