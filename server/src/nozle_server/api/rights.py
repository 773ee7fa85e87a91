"""Told by endpoints that change what anybody is entitled to."""

from nozle_server.api.endpoint import Call
from nozle_server.entitlements.news import ENTITLEMENTS_CHANGED, of_customer
from nozle_server.infra.change_bus import Change


async def rights_changed(call: Call, *, customer: str | None = None) -> None:
    """Have every process decide anew, when the call's transaction commits: for this customer, by the merchant's id, else
    for all."""
    if customer is None:
        change = Change(call.org_id, ENTITLEMENTS_CHANGED, str(call.org_id))
    else:
        change = Change(call.org_id, ENTITLEMENTS_CHANGED, customer, of_customer(customer))
    await call.services.seams.change_bus.publish(call.tx, change)
