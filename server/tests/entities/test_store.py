"""What other capabilities ask of entities, and what the database refuses whoever asks."""

import asyncpg
import pytest

from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.customers.queries import get_customer
from nozle_server.entities.model import EntityStatus
from nozle_server.entities.queries import find_entity, get_entity, list_chain
from world import World

pytestmark = pytest.mark.database


@pytest.fixture
async def acme(world: World) -> World:
    """Three in a chain, `company`, `team` and `agent`, and `other`, of another customer."""
    await world.a_customer("acme")
    await world.a_customer("rival")
    await world.an_entity("company")
    await world.an_entity("team", parent_entity_id="company", status="suspended")
    await world.an_entity("agent", parent_entity_id="team", metadata={"a": {"b": [1, None]}})
    await world.an_entity("other", "rival")
    return world


async def test_an_entity_is_found_by_its_customer_and_id(acme: World, other_world: World) -> None:
    async with acme.database.transaction() as tx:
        customer = await get_customer(tx, acme.org_id, "acme")
        entity = await get_entity(tx, acme.org_id, customer.id, "agent")
        assert (entity.external_id, entity.parent_external_id) == ("agent", "team")
        assert entity.metadata == {"a": {"b": [1, None]}}
        assert await find_entity(tx, acme.org_id, customer.id, "agent") == entity
        for org_id, name in ((acme.org_id, "other"), (acme.org_id, "Agent"), (other_world.org_id, "agent")):
            assert await find_entity(tx, org_id, customer.id, name) is None
            with pytest.raises(NotFound) as refused:
                await get_entity(tx, org_id, customer.id, name)
            assert refused.value.code == "entity_not_found"
        with pytest.raises(InvalidInput):
            await find_entity(tx, acme.org_id, customer.id, "\x00")


async def test_of_several_with_one_id_the_latest_is_found(acme: World) -> None:
    async with acme.database.transaction() as tx:
        customer = await get_customer(tx, acme.org_id, "acme")
    for _ in range(3):
        await acme.an_entity("agent", status="deleted")
        async with acme.database.transaction() as tx:
            gone = await get_entity(tx, acme.org_id, customer.id, "agent")
        assert gone.status is EntityStatus.DELETED
        made = await acme.an_entity("agent")
        async with acme.database.transaction() as tx:
            found = await get_entity(tx, acme.org_id, customer.id, "agent")
        assert str(found.id) == made["id"] != str(gone.id)
        assert found.number > gone.number


async def test_a_chain_goes_up_from_the_entity(acme: World, other_world: World) -> None:
    async with acme.database.transaction() as tx:
        customer = await get_customer(tx, acme.org_id, "acme")
        agent = await get_entity(tx, acme.org_id, customer.id, "agent")
        chain = await list_chain(tx, acme.org_id, agent.id)
        assert [one.external_id for one in chain] == ["agent", "team", "company"]
        assert [one.status for one in chain] == ["active", "suspended", "active"]
        assert chain[0] == agent
        assert await list_chain(tx, acme.org_id, chain[2].id) == chain[2:]
        assert await list_chain(tx, other_world.org_id, agent.id) == ()


@pytest.mark.parametrize(
    "sql",
    [
        "delete from entities where org_id = $1 and external_id = 'agent'",
        "update entities set external_id = 'x' where org_id = $1 and external_id = 'agent'",
        "update entities set number = 99 where org_id = $1 and external_id = 'agent'",
        "update entities set parent_id = id where org_id = $1 and external_id = 'agent'",
        "update entities set status = 'deleted' where org_id = $1 and external_id = 'agent'",
        "update entities set deleted_at = now() where org_id = $1 and external_id = 'agent'",
        "update entities set metadata = '[]' where org_id = $1 and external_id = 'agent'",
        "update entities set pool_policy = 'all' where org_id = $1 and external_id = 'agent'",
        """update entities set parent_id = (select id from entities where org_id = $1 and external_id = 'other')
           where org_id = $1 and external_id = 'agent'""",
        """insert into entities select org_id, gen_random_uuid(), customer_id, 99, external_id, name, status, metadata,
               parent_id, pool_policy, created_at, updated_at, deleted_at
           from entities where org_id = $1 and external_id = 'agent'""",
        "update entities set status = 'active', deleted_at = null where org_id = $1 and external_id = 'gone'",
        "update entities set name = 'x' where org_id = $1 and external_id = 'gone'",
    ],
)
async def test_the_database_refuses(acme: World, sql: str) -> None:
    """Entities are never removed, renamed or revived; two of one id never live; a parent is of the same customer."""
    await acme.an_entity("gone")
    await acme.an_entity("gone", status="deleted")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        async with acme.database.transaction() as tx:
            await tx.execute(sql, acme.org_id)


async def test_the_table_cannot_be_emptied(acme: World) -> None:
    async with acme.database.as_owner() as owner:
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute("truncate entities cascade")
