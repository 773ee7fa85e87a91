"""Give a subscription rights that its plan does not give, or other ones, or take some away. They reach the next `can()`.

They are the subscription's: a change of plan leaves them behind. As Lago:
https://getlago.com/docs/api-reference/entitlements/subscription-entitlements/update-subscription-entitlement
"""

from collections.abc import Mapping
from typing import Any

from nozle_server.catalog.operations.entitlements import plan_entitlements, unknown_privilege
from nozle_server.catalog.queries import get_feature
from nozle_server.core.errors import NotFound
from nozle_server.entitlements import override_store as store
from nozle_server.entitlements.override_store import SubscriptionEntitlement
from nozle_server.infra.database import Tx
from nozle_server.subscriptions.model import Subscription


async def override_entitlements(tx: Tx, *, subscription: Subscription, wanted: Mapping[str, Any]) -> None:
    """Feature codes to privileges, True for none, False to take the feature away; what is not named stays."""
    for one in await plan_entitlements(tx, subscription.org_id, wanted):
        await store.merge(tx, subscription.org_id, subscription.id, one.feature_id, one.privileges)
    for code, value in wanted.items():
        if value is False:
            feature = await get_feature(tx, subscription.org_id, code)
            await store.remove(tx, subscription.org_id, subscription.id, feature.id)


async def get_entitlement(tx: Tx, subscription: Subscription, feature_code: str) -> SubscriptionEntitlement:
    """The subscription's right to a feature; NotFound `entitlement_not_found`."""
    for one in await store.list_of_subscription(tx, subscription.org_id, subscription.id):
        if one.feature_code == feature_code:
            return one
    raise NotFound("entitlement not found", code="entitlement_not_found")


async def remove_entitlement(tx: Tx, *, subscription: Subscription, feature_code: str) -> None:
    await get_entitlement(tx, subscription, feature_code)
    feature = await get_feature(tx, subscription.org_id, feature_code)
    await store.remove(tx, subscription.org_id, subscription.id, feature.id)


async def remove_privilege(
    tx: Tx, *, subscription: Subscription, feature_code: str, privilege_code: str
) -> None:
    """A privilege is as the plan says again; NotFound `privilege_not_found` when it was not otherwise."""
    entitlement = await get_entitlement(tx, subscription, feature_code)
    if privilege_code not in entitlement.own:
        raise unknown_privilege()
    feature = await get_feature(tx, subscription.org_id, feature_code)
    await store.drop_privilege(tx, subscription.org_id, subscription.id, feature.id, privilege_code)
