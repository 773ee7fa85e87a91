"""Use cases that only look at organizations and keys."""

from datetime import datetime
from uuid import UUID

from nozle_server.identity import store
from nozle_server.identity.model import ApiKey, Organization
from nozle_server.identity.operations import unknown_organization
from nozle_server.infra.batch import read_once
from nozle_server.infra.database import Tx


@read_once
async def get_organization(tx: Tx, org_id: UUID) -> Organization:
    """NotFound `organization_not_found` when there is none."""
    organization = await store.find_organization(tx, org_id)
    if organization is None:
        raise unknown_organization()
    return organization


async def list_organizations(tx: Tx) -> list[Organization]:
    """All of them, oldest first: for the people who run the server, never for a caller of the API."""
    return await store.list_organizations(tx)


async def list_keys(tx: Tx, org_id: UUID) -> list[ApiKey]:
    """Every key of the organization, revoked ones too, oldest first."""
    return await store.list_keys(tx, org_id)


async def get_time(tx: Tx, org_id: UUID, real_now: datetime) -> datetime:
    """What time it is for the organization: its test clock's instant if it has been set, else real time."""
    return await store.get_test_now(tx, org_id) or real_now
