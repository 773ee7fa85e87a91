"""Told by endpoints that change what anybody is entitled to."""

from nozle_server.api.endpoint import Call
from nozle_server.entitlements.news import rights_of, rights_of_everybody
from nozle_server.subscriptions.model import Subscription
from nozle_server.workflows.announce import announce_rights


async def rights_changed(call: Call, *, customer: str | None = None) -> None:
    """Have every process decide anew, when the call's transaction commits: for this customer, by the merchant's id, else
    for all."""
    change = rights_of_everybody(call.org_id) if customer is None else rights_of(call.org_id, customer)
    await call.services.seams.change_bus.publish(call.tx, change)


async def rights_of_subscription_changed(call: Call, subscription: Subscription) -> None:
    """As `rights_changed`, for one subscription's customer."""
    await announce_rights(call.tx, call.services.seams, subscription)
