"""What a subscription's plan is called and costs: the plan's name of today with the version subscribed to."""

from dataclasses import dataclass

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.infra.database import Tx
from nozle_server.subscriptions.model import Subscription


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """A plan as one of its subscribers has it."""

    code: str
    name: str
    version: PlanVersion


async def plan_facts(tx: Tx, subscription: Subscription) -> PlanFacts:
    code, name = await plan_store.plan_names(tx, subscription.org_id, subscription.plan_id)
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    return PlanFacts(code, name, version)
