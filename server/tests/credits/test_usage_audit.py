"""The auditor sees what must not become of operations of product credits, also where neither code nor keys prevented it."""

import pytest

from credits.product import a_rate, a_system, give, track
from nozle_server.audit.queries import audit
from nozle_server.audit.usage_operations import CHECKS
from nozle_server.core.clock import SystemClock
from nozle_server.infra.database import rehearse
from world import World

pytestmark = pytest.mark.database

ENTRY, EVENT, PAID, DENIED, RATE = (one.name for one in CHECKS)
DONE = "(select id from usage_operations where org_id = $1 and status = 'succeeded')"
REFUSED = "(select id from usage_operations where org_id = $1 and status = 'denied')"


async def found(world: World, *corruptions: str) -> set[str]:
    """The checks that fail after statements which no trigger or key sees; they are taken back."""
    async with world.database.transaction() as tx:

        async def corrupt() -> set[str]:
            await tx.execute("set local role none; set local session_replication_role = replica")
            for corruption in corruptions:
                assert await tx.execute(corruption, world.org_id) in ("UPDATE 1", "DELETE 1", "INSERT 0 1")
            report = await audit(tx, real_now=SystemClock().now(), org_id=world.org_id)
            return {check.check.name for check in report.checked if check.findings_count} & {
                ENTRY,
                EVENT,
                PAID,
                DENIED,
                RATE,
            }

        return await rehearse(tx, corrupt)


@pytest.mark.parametrize(
    ("corruption", "checks"),
    [
        ((), set()),
        ((f"update usage_operations set entry_id = gen_random_uuid() where id = {DONE}",), {ENTRY}),
        ((f"update usage_operations set credit_system = 'credits' where id = {DONE}",), {ENTRY}),
        ((f"update usage_operations set entity_id = gen_random_uuid() where id = {DONE}",), {ENTRY}),
        ((f"update ledger_entries set amount = amount - 1 where id = {DONE} and org_id = $1",), {ENTRY}),
        (
            (f"update usage_operations set credit_amount = credit_amount * 2 where id = {DONE}",),
            {ENTRY, RATE},
        ),
        (
            (f"update usage_operations set metric_amount = metric_amount + 1 where id = {DONE}",),
            {EVENT, RATE},
        ),
        (("delete from events where org_id = $1",), {EVENT}),
        (("update events set quantity = 1 where org_id = $1",), {EVENT}),
        (("update events set reason = null where org_id = $1",), {EVENT}),
        ((f"delete from usage_operations where org_id = $1 and id = {DONE}",), {PAID}),
        (
            (
                f"""insert into event_ids select org_id, 'txn_' || replace({REFUSED}::text, '-', ''), event_id, occurred_at,
                    payload_hash from event_ids where org_id = $1""",
            ),
            {DENIED},
        ),
        (
            (f"""update ledger_entries set id = {REFUSED} where org_id = $1 and type = 'grant'""",),
            {DENIED},
        ),
        (
            (
                f"update usage_operations set credit_amount = 0.000000000001 where id = {REFUSED} and org_id = $1",
            ),
            {RATE},
        ),
        (("update credit_rates set credit_amount = 3 where org_id = $1",), {RATE}),
        (("update credit_rates set effective_from = '2026-01-02' where org_id = $1",), {RATE}),
    ],
)
async def test_what_must_not_be_is_found(world: World, corruption: tuple[str, ...], checks: set[str]) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan()
    await a_system(world)
    await a_rate(world, credits="2", per="3")
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await give(world, 100)
    await track(world, properties={"n": 50})
    await track(world, properties={"n": 5000})
    assert await found(world, *corruption) == checks
