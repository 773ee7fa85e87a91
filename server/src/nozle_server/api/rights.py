"""Told by endpoints that change what anybody is entitled to."""

from nozle_server.api.endpoint import Call
from nozle_server.entitlements.news import ENTITLEMENTS_CHANGED
from nozle_server.infra.change_bus import Change


async def rights_changed(call: Call) -> None:
    """Have every process decide anew, when the call's transaction commits."""
    change = Change(call.org_id, ENTITLEMENTS_CHANGED, str(call.org_id))
    await call.services.seams.change_bus.publish(call.tx, change)
