"""What `can()` says of everything that a customer has."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nozle_server.entitlements.economics import Economics
from nozle_server.entitlements.model import Decision, FeatureType, Reason
from nozle_server.entitlements.overview import (
    CustomerEntitlements,
    FeatureEntitlement,
    Holder,
    codes_of,
    holders_of,
    valid_until,
)
from nozle_server.entitlements.queries import Question, decide_question
from nozle_server.entitlements.snapshot import CustomerSnapshot

NO_CODE = ""
"""What no feature and no metric is called: what `can()` says of it, it says of every code that nobody knows."""


async def decide_all(
    snapshot: CustomerSnapshot,
    economics: Economics,
    *,
    with_costs: bool,
    real_now: datetime,
    subscription: str | None = None,
    must_choose: bool = False,
) -> CustomerEntitlements:
    """All that the customer may and may not use, at the organization's time; nothing for an unknown one. `subscription` and
    `must_choose` as in a `Question`.

    Figures of unit economics that are not known are read: hold no connection, or give `economics.within` it.
    """
    holders = holders_of(snapshot, subscription)
    now = snapshot.organization.now(real_now)

    async def decide(code: str, of: str | None = subscription) -> Decision:
        question = Question(snapshot.external_id, code, {}, of, must_choose=must_choose)
        decided = await decide_question(
            snapshot, economics, question, with_costs=with_costs, real_now=real_now
        )
        return decided.decision

    features = []
    for code in codes_of(holders, now):
        decision = await decide(code)
        having = [one for one in holders if one.is_active_at(now) and code in one.rights]
        holder: Holder | None = having[0]
        right = having[0].rights[code]
        if decision.reason is Reason.SUBSCRIPTION_REQUIRED:
            holder, right = None, replace(right, privileges={})
        elif len(having) > 1:
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
