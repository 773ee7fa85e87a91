"""The test clock of an organization in test mode (contract Decision 23)."""

import msgspec

from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Scope
from nozle_server.api.shapes import INSTANT, optional, shape
from nozle_server.core.errors import NotAllowed
from nozle_server.identity.model import Mode
from nozle_server.identity.queries import get_organization
from nozle_server.metering.timestamps import parse_timestamp
from nozle_server.workflows.turn_clock import turn_clock


class ClockBody(msgspec.Struct):
    """The instant to move to."""

    now: str


async def show(call: Call) -> object:
    organization = await get_organization(call.tx, call.org_id)
    if organization.mode is not Mode.TEST:
        raise NotAllowed("only an organization in test mode has a clock", code="live_mode")
    return {"now": organization.test_now}


async def turn(call: Call) -> object:
    if call.principal.mode is not Mode.TEST:
        raise NotAllowed("only an organization in test mode has a clock", code="live_mode")
    to = parse_timestamp(call.body.now, "now")
    services = call.services
    now = await turn_clock(
        services.database, services.seams, org_id=call.org_id, to=to, real_now=call.received_at
    )
    return {"now": now}


_EXAMPLE = {"now": "2026-02-15T00:00:00Z"}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/test-clock",
        handler=show,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Read the test clock",
        description="Null while the organization lives on real time.",
        tag="Test clock",
        reply_schema=shape(now=optional(INSTANT)),
        example=Example(response=_EXAMPLE),
    ),
    Endpoint(
        method="POST",
        path="/test-clock",
        handler=turn,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Turn the test clock",
        description=(
            "Moves the organization's time and runs everything that falls due up to and including that instant, in order,"
            " before it answers. The first turn may set any instant while nothing was billed; later ones only go forward."
        ),
        tag="Test clock",
        body=ClockBody,
        reply_schema=shape(now=INSTANT),
        errors=(422,),
        transaction=False,
        example=Example(request=_EXAMPLE, response=_EXAMPLE),
    ),
)
