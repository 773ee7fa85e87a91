"""The credit systems of a catalog file: compared with what is stored, and applied."""

from datetime import datetime
from uuid import UUID

from nozle_server.catalog import credit_system_store, metric_store
from nozle_server.catalog.credit_model import CreditRate, CreditSystem, SystemStatus
from nozle_server.catalog.credit_rates import current_rate
from nozle_server.catalog.credit_system_drafts import CreditRateDraft, CreditSystemChange, CreditSystemEntry
from nozle_server.catalog.operations import credit_systems as credit_system_operations
from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import to_plain
from nozle_server.infra.database import Tx
from nozle_server.workflows.catalog_difference import Difference, changes_between


async def apply_credit_system(
    tx: Tx, org_id: UUID, entry: CreditSystemEntry, now: datetime
) -> list[Difference]:
    """Make a credit system and its rates say what a catalog file says; what was different."""
    previous = await credit_system_store.find_system(tx, org_id, entry.code)
    if previous is None:
        await credit_system_operations.create_credit_system(tx, org_id=org_id, draft=entry, now=now)
        await _apply_rates(tx, org_id, entry, now)
        return [Difference("+", "credit system", entry.code)]
    change = CreditSystemChange(
        name=entry.name,
        description=entry.description,
        unit_name=entry.unit_name,
        features=entry.features,
        status=SystemStatus.ACTIVE,
    )
    planned = credit_system_operations.changed_system(previous, change, now)
    changes = changes_between(_system_facts(previous), _system_facts(planned))
    if changes:
        await credit_system_operations.change_credit_system(
            tx, org_id=org_id, code=entry.code, change=change, now=now
        )
    changes += await _apply_rates(tx, org_id, entry, now)
    return [Difference("~", "credit system", entry.code, changes)] if changes else []


async def _apply_rates(tx: Tx, org_id: UUID, entry: CreditSystemEntry, now: datetime) -> tuple[str, ...]:
    """Let the system have the entry's rates from now on, and no others; what is different."""
    if entry.rates is None:
        return ()
    metrics = [rate.metric for rate in entry.rates]
    if len(set(metrics)) != len(metrics):
        raise InvalidInput("rates: a metric is there twice", details={"rates": ["value_is_duplicated"]})
    before = await _rates_now(tx, org_id, entry.code, now)
    for rate in entry.rates:
        held = before.get(rate.metric)
        if held and (held.metric_amount, held.credit_amount) == (rate.metric_amount, rate.credit_amount):
            continue
        draft = CreditRateDraft(metric_amount=rate.metric_amount, credit_amount=rate.credit_amount)
        await credit_system_operations.set_rate(
            tx,
            org_id=org_id,
            system_code=entry.code,
            metric_code=rate.metric,
            draft=draft,
            effective_from=None,
            now=now,
        )
    for metric in before.keys() - set(metrics):
        await credit_system_operations.end_rate(
            tx, org_id=org_id, system_code=entry.code, metric_code=metric, now=now
        )
    after = await _rates_now(tx, org_id, entry.code, now)
    return changes_between(
        {f"rate of {metric}": _rate_facts(rate) for metric, rate in before.items()},
        {f"rate of {metric}": _rate_facts(rate) for metric, rate in after.items()},
    )


async def _rates_now(tx: Tx, org_id: UUID, code: str, now: datetime) -> dict[str, CreditRate]:
    """What holds now in a system, by the metric's code."""
    system = await credit_system_store.find_system(tx, org_id, code)
    assert system is not None, "it was made or found just now"
    rates = [
        one
        for one in await credit_system_store.rates_of_system(tx, org_id, system.id)
        if current_rate([one], now)
    ]
    metrics = await metric_store.find_metrics_by_id(tx, org_id, [one.metric_id for one in rates])
    return {metrics[one.metric_id].code: one for one in rates}


def _system_facts(system: CreditSystem) -> dict[str, object]:
    return {
        "name": system.name,
        "description": system.description,
        "unit_name": system.unit_name,
        "status": system.status,
        "features": system.features,
    }


def _rate_facts(rate: CreditRate) -> object:
    return {"metric_amount": to_plain(rate.metric_amount), "credit_amount": to_plain(rate.credit_amount)}
