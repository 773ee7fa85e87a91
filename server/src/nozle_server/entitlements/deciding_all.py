"""What `can()` says of everything that a customer has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.entitlements import overview_store
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.model import Decision, FeatureType
from nozle_server.entitlements.overview import (
    CustomerEntitlements,
    FeatureEntitlement,
    Holder,
    codes_of,
    valid_until,
)
from nozle_server.entitlements.queries import Question, decide_question
from nozle_server.entitlements.snapshot import CustomerSnapshot
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.infra.database import Tx

NO_CODE = ""
"""What no feature and no metric is called: what `can()` says of it, it says of every code that nobody knows."""


@dataclass(frozen=True, slots=True)
class Everything:
    """All that the answer for a customer is made of, as of one moment; of one subscription, by its external id, where it is
    narrowed to that."""

    snapshot: CustomerSnapshot
    holders: tuple[Holder, ...]
    subscription: str | None


async def read_all(tx: Tx, org_id: UUID, customer: str, subscription: str | None = None) -> Everything:
    """By the merchant's id of the customer, of whom there may be none. `tx` should see one moment of the database."""
    holders = await overview_store.read_holders(tx, org_id, customer, subscription)
    snapshot = await read_customer(tx, await read_organization(tx, org_id), customer)
    return Everything(snapshot, holders, subscription)


async def decide_all(
    everything: Everything, economics: Economics, *, with_costs: bool, real_now: datetime
) -> CustomerEntitlements:
    """All that the customer may and may not use, at the organization's time; nothing for an unknown one.

    Figures of unit economics that are not known are read: hold no connection, or give `economics.within` it.
    """
    snapshot, holders = everything.snapshot, everything.holders
    now = snapshot.organization.now(real_now)

    async def decide(code: str, of: str | None = everything.subscription) -> Decision:
        question = Question(snapshot.external_id, code, {}, of)
        decided = await decide_question(
            snapshot, economics, question, with_costs=with_costs, real_now=real_now
        )
        return decided.decision

    features = []
    for code in codes_of(holders, now):
        decision = await decide(code)
        having = [one for one in holders if one.is_active_at(now) and code in one.rights]
        holder = having[0]
        if len(having) > 1:
            alone = [await decide(code, one.subscription.external_id) for one in having]
            holder = _holder_of(decision, having, alone)
        right = holder.rights[code]
        metered = right.type is not FeatureType.BOOLEAN
        features.append(
            FeatureEntitlement(right, decision, holder, valid_until(holders, now, metered=metered))
        )
    return CustomerEntitlements(
        snapshot.external_id,
        holders,
        tuple(features),
        await decide(NO_CODE),
        valid_until(holders, now, metered=False),
    )


def _holder_of(decision: Decision, having: Sequence[Holder], alone: Sequence[Decision]) -> Holder:
    """Which of several subscriptions the decision over all of them is of."""
    return next(
        (holder for holder, one in zip(having, alone, strict=True) if one == decision),
        having[0],
    )
