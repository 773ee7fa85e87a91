"""The auditor sees what must not become of entities, also where neither code nor keys prevented it."""

import pytest

from nozle_server.audit.queries import audit
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import rehearse
from world import World

pytestmark = pytest.mark.database

NOT_BELOW = "entity_stands_below_a_live_one"
NO_TREE = "entities_are_a_tree"


def one(name: str, table: str = "entities") -> str:
    return f"(select id from {table} where org_id = $1 and external_id = '{name}' order by created_at, id limit 1)"


async def found(world: World, corruption: str | None) -> set[str]:
    """The checks about entities that fail after a statement which no trigger or key sees; it is taken back."""
    async with world.database.transaction() as tx:

        async def corrupt() -> set[str]:
            await tx.execute("set local role none; set local session_replication_role = replica")
            if corruption is not None:
                assert await tx.execute(corruption, world.org_id) == "UPDATE 1"
            report = await audit(tx, real_now=SystemClock().now(), org_id=world.org_id)
            failed = {check.check.name for check in report.checked if check.findings_count}
            return {name for name in failed if "entit" in name}

        return await rehearse(tx, corrupt)


@pytest.mark.parametrize(
    ("corruption", "checks"),
    [
        (None, set()),
        (f"update entities set parent_id = {one('gone')} where id = {one('d8')}", {NOT_BELOW, NO_TREE}),
        (
            f"update entities set customer_id = {one('rival', 'customers')} where id = {one('d1')}",
            {NOT_BELOW, NO_TREE},
        ),
        (f"update entities set parent_id = {one('alone')} where id = {one('d1')}", {NO_TREE}),
        (f"update entities set parent_id = {one('d2')} where id = {one('d1')}", {NO_TREE}),
        (f"update entities set number = 99 where id = {one('again')}", {"live_entity_is_the_last_of_its_id"}),
        (
            f"update customers set deleted_at = now() where id = {one('acme', 'customers')}",
            {"entities_end_with_their_customer"},
        ),
    ],
)
async def test_what_must_not_be_is_found(world: World, corruption: str | None, checks: set[str]) -> None:
    await world.a_customer("acme")
    await world.a_customer("rival")
    await world.an_entity("alone")
    up = None
    for name in (f"d{n}" for n in range(1, 9)):
        await world.an_entity(name, parent_entity_id=up)
        up = name
    for name in ("gone", "again"):
        await world.an_entity(name)
        await world.an_entity(name, status="deleted")
    await world.an_entity("again")
    assert await found(world, corruption) == checks
