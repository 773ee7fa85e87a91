"""An invoice that cannot be made is kept as failed, with its reason, and is made when it is retried."""

import pytest

from nozle_server.infra.postgres_usage import PostgresUsageStore
from nozle_server.infra.seams import Seams
from nozle_server.invoicing import store
from nozle_server.invoicing.store import InvoiceFilter
from nozle_server.workflows.bill import refresh_draft
from nozle_server.workflows.drain_due import drain_due
from world import World, audit, instant

pytestmark = pytest.mark.database

STANDARD = {"billable_metric_code": "tokens", "charge_model": "standard", "properties": {"amount": "1"}}


class BrokenUsage(PostgresUsageStore):
    """Usage that cannot be read."""

    async def usage(self, *_: object, **__: object) -> list[object]:  # type: ignore[override]
        raise ArithmeticError("a quantity nobody can count")


async def test_a_failed_invoice_has_no_number_and_is_made_when_retried(world: World) -> None:
    await world.turn("2026-01-01")
    await world.a_metric()
    await world.a_plan(amount_cents=1000, charges=[STANDARD])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.use("acme", 5)
    seams = world.services.seams
    broken = Seams(seams.event_log, BrokenUsage(), seams.change_bus)
    await drain_due(world.database, broken, org_id=world.org_id, until=instant("2026-02-01"), turn_clock=True)
    failed = await world.last_invoice("acme")
    assert (failed["status"], failed["number"], failed["amount"]) == ("failed", "DRAFT", 0)

    async with world.database.transaction() as tx:
        found, _ = await store.list_invoices(
            tx, world.org_id, InvoiceFilter(statuses=("failed",)), limit=10, offset=0
        )
        (invoice,) = found
        assert "a quantity nobody can count" in invoice.error_details[0]["details"]
        locked = await store.lock(tx, world.org_id, invoice.id)
        assert locked is not None
        await refresh_draft(tx, seams, locked, now=instant("2026-02-03"), final=True)
    made = await world.last_invoice("acme")
    assert (made["number"], made["amount"], made["issuing_date"]) == ("INV-001", 1500, "2026-02-03")
    assert made["period_start"] == "2026-01-01T00:00:00Z"
    await world.turn("2026-03-01")
    assert [one["number"] for one in await world.invoices("acme")] == ["INV-001", "INV-002"]
    await audit(world)


async def test_a_draft_that_cannot_be_made_final_fails_and_the_merchant_is_told(world: World) -> None:
    await world.turn("2026-01-01")
    await world.settings(invoice_grace_period=3)
    await world.a_metric()
    await world.a_plan(charges=[STANDARD])
    await world.a_customer()
    await world.subscribe("acme", "pro")
    await world.use("acme", 5)
    await world.turn("2026-02-02")
    seams = world.services.seams
    broken = Seams(seams.event_log, BrokenUsage(), seams.change_bus)
    await drain_due(world.database, broken, org_id=world.org_id, until=instant("2026-02-05"), turn_clock=True)
    failed = await world.last_invoice("acme")
    assert (failed["status"], failed["number"]) == ("failed", "DRAFT")
    told = await world.fetch("select 1 from outbox where org_id = $1 and kind = 'invoice.failed'")
    assert len(told) == 1
