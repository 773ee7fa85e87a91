"""What `can()` says of everything that a customer has."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.entitlements import overview_store
from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.model import Decision
from nozle_server.entitlements.overview import (
    CustomerEntitlements,
    FeatureEntitlement,
    FeatureType,
    Holder,
    codes_of,
    valid_until,
)
from nozle_server.entitlements.queries import Question, decide_question
from nozle_server.entitlements.snapshot_store import read_customer, read_organization
from nozle_server.infra.database import Tx

NO_CODE = ""
"""What no feature and no metric is called: what `can()` says of it, it says of every code that nobody knows."""


async def decide_all(
    tx: Tx,
    economics: Economics,
    *,
    org_id: UUID,
    customer: str,
    with_costs: bool,
    now: datetime,
    real_now: datetime,
    subscription: str | None = None,
) -> CustomerEntitlements:
    """Everything that a customer, by the merchant's id, may and may not use at `now`; nothing for an unknown one.

    `tx` should see one moment of the database. `subscription` narrows to one, by its external id.
    """
    holders = await overview_store.read_holders(tx, org_id, customer, subscription)

    snapshot = await read_customer(tx, await read_organization(tx, org_id), customer)

    async def decide(code: str, of: str | None = subscription) -> Decision:
        question = Question(customer, code, {}, of)
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
        customer,
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
