"""Define, change and archive credit systems, and say what units of a metric cost in them.

A system is never removed: customers may have credits of it. Archived, it grants and rates nothing new, and gives up its
feature labels; what customers have of it they keep, and may spend by naming it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import UNSET

from nozle_server.catalog import credit_system_store as store
from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM, CreditRate, CreditSystem, SystemStatus
from nozle_server.catalog.credit_rates import close_from, current_rate, is_consumable
from nozle_server.catalog.credit_system_drafts import (
    CreditRateDraft,
    CreditSystemChange,
    CreditSystemDraft,
)
from nozle_server.catalog.drafts import kept
from nozle_server.catalog.model import Metric
from nozle_server.catalog.queries import get_rate_versions, lock_metric, unknown_credit_system
from nozle_server.core.errors import Conflict, InvalidInput, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra.database import Tx

DEFAULT_UNIT_NAME = "credits"
MAX_FEATURES = 1_000


async def create_credit_system(
    tx: Tx, *, org_id: UUID, draft: CreditSystemDraft, now: datetime
) -> CreditSystem:
    """A new, active system; Conflict `value_already_exist` when its code is taken, RuleBroken `feature_taken` when one of
    its labels is another's."""
    code = parse_id(draft.code, "code")
    await store.hold_systems(tx, org_id)
    system = CreditSystem(
        org_id=org_id,
        id=new_id(),
        code=code,
        name=_name(draft.name, code),
        description=parse_text(draft.description, "description"),
        unit_name=_unit_name(draft.unit_name),
        status=SystemStatus.ACTIVE,
        features=_features(draft.features or ()),
        created_at=now,
        updated_at=now,
    )
    await _check_features(tx, system)
    if not await store.insert_system(tx, system):
        raise Conflict(
            "a credit system with this code exists",
            code="value_already_exist",
            details={"code": ["value_already_exist"]},
        )
    return system


async def change_credit_system(
    tx: Tx, *, org_id: UUID, code: str, change: CreditSystemChange, now: datetime
) -> CreditSystem:
    """Change what is given and leave the rest; a system keeps its code. By its status it is archived, or active again."""
    before = await _lock(tx, org_id, code)
    return await _store(tx, before, changed_system(before, change, now), now)


def changed_system(before: CreditSystem, change: CreditSystemChange, now: datetime) -> CreditSystem:
    """The system with what the change says otherwise. Null is the default, but for a status."""
    if change.code not in (UNSET, None, before.code):
        raise RuleBroken(
            "a credit system keeps its code", code="code_is_fixed", details={"code": ["value_is_fixed"]}
        )
    return replace(
        before,
        name=_name(kept(change.name, before.name, None), before.code),
        description=parse_text(kept(change.description, before.description, None), "description"),
        unit_name=_unit_name(kept(change.unit_name, before.unit_name, None)),
        status=_status(kept(change.status, str(before.status), str(before.status))),
        features=_features(kept(change.features, list(before.features), [])),
        updated_at=now,
    )


async def archive_credit_system(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> CreditSystem:
    """Grant and rate nothing new in a system; again is harmless. RuleBroken for the default system, and while a plan grants
    credits of it."""
    before = await _lock(tx, org_id, code)
    if before.status is SystemStatus.ARCHIVED:
        return before
    return await _store(tx, before, replace(before, status=SystemStatus.ARCHIVED, updated_at=now), now)


async def set_rate(
    tx: Tx,
    *,
    org_id: UUID,
    system_code: str,
    metric_code: str,
    draft: CreditRateDraft,
    effective_from: datetime | None,
    now: datetime,
) -> tuple[CreditSystem, Metric, Sequence[CreditRate]]:
    """Let a metric's units cost something else from `effective_from` (default: now) on; all versions.

    What would have held then or later is replaced; what has held stays. The same as what holds changes nothing. A first
    rate may hold from the past on, others only from now: RuleBroken `metric_not_consumable` for a metric whose events
    have no quantity of their own.
    """
    system = await _lock(tx, org_id, system_code)
    if system.status is not SystemStatus.ACTIVE:
        raise archived(system)
    metric = await lock_metric(tx, org_id, metric_code)
    if not is_consumable(metric):
        raise RuleBroken(
            "only a count, or the sum of a property that is not recurring, can be paid by credits",
            code="metric_not_consumable",
        )
    versions = await store.versions_of_rate(tx, org_id, system.id, metric.id)
    start = effective_from or now
    if versions and start < now:
        raise InvalidInput(
            "effective_from lies in the past: what has held stays",
            details={"effective_from": ["value_is_out_of_range"]},
        )
    rate = CreditRate(
        org_id=org_id,
        id=new_id(),
        credit_system_id=system.id,
        credit_system=system.code,
        metric_id=metric.id,
        metric_amount=_positive(draft.metric_amount, "metric_amount"),
        credit_amount=_positive(draft.credit_amount, "credit_amount"),
        effective_from=start,
        effective_to=None,
        created_at=now,
    )
    holding = current_rate(versions, start)
    if holding is None or holding.effective_to is not None or not _same_price(holding, rate):
        await store.close_rates(tx, close_from(versions, start))
        await store.insert_rate(tx, rate)
    return await get_rate_versions(tx, org_id, system.code, metric.code)


async def end_rate(
    tx: Tx, *, org_id: UUID, system_code: str, metric_code: str, now: datetime
) -> tuple[CreditSystem, Metric, Sequence[CreditRate]]:
    """From now on a metric has no rate in a system; its history stays. Again is harmless."""
    system = await _lock(tx, org_id, system_code)
    _, metric, versions = await get_rate_versions(tx, org_id, system.code, metric_code)
    await store.close_rates(tx, close_from(versions, now))
    return await get_rate_versions(tx, org_id, system.code, metric.code)


async def require_active_systems(tx: Tx, org_id: UUID, codes: Sequence[str]) -> None:
    """These systems exist and stay active until the transaction ends; NotFound `credit_system_not_found`, RuleBroken
    `credit_system_archived`."""
    wanted = {parse_id(code, "credit_system") for code in codes}
    found = await store.hold_by_code(tx, org_id, sorted(wanted)) if wanted else {}
    for code in wanted:
        if code not in found:
            raise unknown_credit_system()
        if found[code].status is not SystemStatus.ACTIVE:
            raise archived(found[code])


def archived(system: CreditSystem) -> RuleBroken:
    return RuleBroken(f"the credit system {system.code} is archived", code="credit_system_archived")


async def _lock(tx: Tx, org_id: UUID, code: str) -> CreditSystem:
    await store.hold_systems(tx, org_id)
    system = await store.lock_system(tx, org_id, parse_id(code, "code"))
    if system is None:
        raise unknown_credit_system()
    return system


async def _store(tx: Tx, before: CreditSystem, changed: CreditSystem, now: datetime) -> CreditSystem:
    if changed.status is SystemStatus.ARCHIVED and before.status is SystemStatus.ACTIVE:
        await _check_archivable(tx, changed)
        await store.close_rates(
            tx, close_from(await store.rates_of_system(tx, changed.org_id, changed.id), now)
        )
    if changed.status is SystemStatus.ARCHIVED:
        changed = replace(changed, features=())
    await _check_features(tx, changed)
    await store.update_system(tx, changed)
    return changed


async def _check_archivable(tx: Tx, system: CreditSystem) -> None:
    if system.code == DEFAULT_CREDIT_SYSTEM:
        raise RuleBroken(
            "the default credit system stays: what names no system means it", code="default_credit_system"
        )
    if await store.is_granted_by_plans(tx, system.org_id, system.code):
        raise RuleBroken("a plan grants credits of this system", code="credit_system_in_use")


async def _check_features(tx: Tx, system: CreditSystem) -> None:
    """The database decides too (`credit_system_features`); here it is said which."""
    owners = await store.owners_of_features(tx, system.org_id, system.features)
    if any(owner != system.code for owner in owners.values()):
        raise RuleBroken("a feature label belongs to one credit system", code="feature_taken")


def _same_price(one: CreditRate, other: CreditRate) -> bool:
    return (one.metric_amount, one.credit_amount) == (other.metric_amount, other.credit_amount)


def _positive(value: Decimal, field: str) -> Decimal:
    return parse_amount(Decimal(value), field, minimum=Decimal(0), exclusive=True)


def _name(name: str | None, code: str) -> str:
    return parse_id(name, "name") if name else code


def _unit_name(name: str | None) -> str:
    return parse_id(name, "unit_name") if name else DEFAULT_UNIT_NAME


def _status(value: str) -> SystemStatus:
    try:
        return SystemStatus(value)
    except ValueError:
        raise InvalidInput(
            "status must be active or archived", details={"status": ["value_is_invalid"]}
        ) from None


def _features(labels: Sequence[str]) -> tuple[str, ...]:
    """In order, each once."""
    if len(labels) > MAX_FEATURES:
        raise InvalidInput(
            f"a credit system has at most {MAX_FEATURES} features", details={"features": ["too_many"]}
        )
    return tuple(dict.fromkeys(parse_id(label, "features") for label in labels))
