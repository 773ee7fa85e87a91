"""Define, change and remove plans. A change of price makes the next version; subscribers keep the one they have."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import metric_store, plan_store
from nozle_server.catalog.charge_models import charge_model_name, parse_charge_model
from nozle_server.catalog.drafts import ChargeDraft, PlanDraft
from nozle_server.catalog.model import Charge, ChargeFilter, Metric, Plan, PlanVersion
from nozle_server.catalog.operations.entitlements import set_entitlements
from nozle_server.catalog.queries import get_plan, unknown_metric, unknown_plan
from nozle_server.core.errors import Conflict, InvalidInput, RuleBroken
from nozle_server.core.ids import new_id
from nozle_server.core.money import is_currency
from nozle_server.core.numbers import parse_amount
from nozle_server.core.periods import Interval
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra.database import Tx

MAX_CHARGES = 200
MAX_AMOUNT_CENTS = 10**15


async def create_plan(tx: Tx, *, org_id: UUID, draft: PlanDraft, now: datetime) -> Plan:
    """A new plan with its first version; Conflict `value_already_exist` when its code is taken."""
    plan_id = new_id()
    version = await plan_version(tx, draft, org_id=org_id, plan_id=plan_id, previous=None, now=now)
    code = parse_id(draft.code, "code")
    name, description = _texts(draft)
    created = await plan_store.insert_plan(
        tx, org_id=org_id, plan_id=plan_id, code=code, name=name, description=description, now=now
    )
    if not created:
        raise Conflict(
            "a plan with this code exists",
            code="value_already_exist",
            details={"code": ["value_already_exist"]},
        )
    await plan_store.add_version(tx, version)
    if draft.entitlements is not None:
        await set_entitlements(
            tx, org_id=org_id, plan_code=code, wanted=draft.entitlements, replace=True, now=now
        )
    return await get_plan(tx, org_id, code)


async def update_plan(tx: Tx, *, org_id: UUID, code: str, draft: PlanDraft, now: datetime) -> Plan:
    """Replace a plan's definition. Other prices make another version; entitlements change for everybody at once."""
    previous = await plan_store.lock_plan(tx, org_id, parse_id(code, "code"))
    if previous is None:
        raise unknown_plan()
    if draft.code != code:
        raise RuleBroken("a plan keeps its code", code="code_is_fixed", details={"code": ["value_is_fixed"]})
    version = await plan_version(
        tx, draft, org_id=org_id, plan_id=previous.id, previous=previous.current, now=now
    )
    name, description = _texts(draft)
    if (name, description) != (previous.name, previous.description):
        await plan_store.rename_plan(tx, org_id, previous.id, name=name, description=description, now=now)
    if not same_prices(version, previous.current):
        await plan_store.add_version(tx, version)
    if draft.entitlements is not None:
        await set_entitlements(
            tx, org_id=org_id, plan_code=code, wanted=draft.entitlements, replace=True, now=now
        )
    return await get_plan(tx, org_id, code)


async def delete_plan(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> Plan:
    """Remove a plan that nobody is subscribed to."""
    plan = await plan_store.lock_plan(tx, org_id, parse_id(code, "code"))
    if plan is None:
        raise unknown_plan()
    if await plan_store.count_subscriptions(tx, org_id, plan.id):
        raise RuleBroken("the plan has subscriptions", code="plan_has_subscriptions")
    await plan_store.delete_plan(tx, org_id, plan.id, now)
    return plan


async def plan_version(
    tx: Tx, draft: PlanDraft, *, org_id: UUID, plan_id: UUID, previous: PlanVersion | None, now: datetime
) -> PlanVersion:
    """The version that a draft describes; charges that price the same metric by the same model keep their id."""
    draft.refuse_unsupported()
    try:
        interval = Interval(draft.interval)
    except ValueError:
        raise InvalidInput(
            "interval must be one of " + ", ".join(Interval), details={"interval": ["value_is_invalid"]}
        ) from None
    if draft.amount_currency and draft.currency and draft.amount_currency != draft.currency:
        raise InvalidInput(
            "currency and amount_currency say different things", details={"amount_currency": ["given_twice"]}
        )
    currency = draft.amount_currency or draft.currency or "USD"
    if not is_currency(currency):
        raise InvalidInput(
            "amount_currency is not an ISO 4217 code", details={"amount_currency": ["value_is_invalid"]}
        )
    if not 0 <= draft.amount_cents <= MAX_AMOUNT_CENTS:
        raise InvalidInput(
            "amount_cents must be 0 or more", details={"amount_cents": ["value_is_out_of_range"]}
        )
    if len(draft.charges) > MAX_CHARGES:
        raise InvalidInput(f"a plan has at most {MAX_CHARGES} charges", details={"charges": ["too_many"]})
    metrics = await _metrics_of(tx, org_id, draft.charges)
    charges = [_charge(one, metrics, now) for one in draft.charges]
    return PlanVersion(
        org_id=org_id,
        id=new_id(),
        plan_id=plan_id,
        version=previous.version + 1 if previous else 1,
        interval=interval,
        amount_cents=draft.amount_cents,
        currency=currency,
        pay_in_advance=draft.pay_in_advance,
        credits=parse_amount(Decimal(draft.credits), "credits", minimum=Decimal(0)),
        charges=_keep_ids(charges, previous.charges if previous else ()),
        created_at=now,
    )


def same_prices(one: PlanVersion, other: PlanVersion) -> bool:
    """Whether two versions charge the same."""
    return _prices(one) == _prices(other)


def _prices(version: PlanVersion) -> PlanVersion:
    """The version without what does not change a bill: ids, number, instants."""
    nothing = UUID(int=0)
    charges = tuple(
        replace(
            charge,
            id=nothing,
            created_at=version.created_at.min,
            filters=tuple(replace(one, id=nothing) for one in charge.filters),
        )
        for charge in version.charges
    )
    return replace(version, id=nothing, version=0, created_at=version.created_at.min, charges=charges)


def _keep_ids(charges: Sequence[Charge], previous: Sequence[Charge]) -> tuple[Charge, ...]:
    unclaimed = list(previous)
    kept = []
    for charge in charges:
        for old in unclaimed:
            same = old.metric_id == charge.metric_id and charge_model_name(old.model) == charge_model_name(
                charge.model
            )
            if same:
                unclaimed.remove(old)
                charge = replace(charge, id=old.id, created_at=old.created_at)
                break
        kept.append(charge)
    return tuple(kept)


async def _metrics_of(tx: Tx, org_id: UUID, charges: Sequence[ChargeDraft]) -> Mapping[object, Metric]:
    """The metrics that charges name, by code and by id."""
    codes = [one.metric_code for one in charges if one.metric_code]
    found: dict[object, Metric] = {}
    found.update(await metric_store.find_metrics(tx, org_id, codes))
    for one in charges:
        if one.billable_metric_id and not one.metric_code:
            metric = await metric_store.find_metric_by_id(tx, org_id, one.billable_metric_id)
            if metric:
                found[one.billable_metric_id] = metric
    return found


def _charge(draft: ChargeDraft, metrics: Mapping[object, Metric], now: datetime) -> Charge:
    draft.refuse_unsupported()
    metric = metrics.get(draft.metric_code or draft.billable_metric_id)
    if metric is None:
        raise unknown_metric()
    return Charge(
        id=new_id(),
        metric_id=metric.id,
        metric_code=metric.code,
        model=parse_charge_model(draft.charge_model, draft.properties),
        filters=_filters(draft, metric),
        invoice_display_name=parse_text(draft.invoice_display_name, "invoice_display_name"),
        created_at=now,
    )


def _filters(draft: ChargeDraft, metric: Metric) -> tuple[ChargeFilter, ...]:
    known = {one.key: one.values for one in metric.filters}
    filters = []
    for one in draft.filters:
        for key, values in one.values.items():
            if key not in known or not values or not set(values) <= set(known[key]):
                raise InvalidInput(
                    "a charge filter uses the keys and values of its metric's filters",
                    details={"filters": ["value_is_invalid"]},
                )
        if not one.values:
            raise InvalidInput(
                "a charge filter names a property", details={"filters": ["value_is_mandatory"]}
            )
        filters.append(
            ChargeFilter(
                id=new_id(),
                values={key: tuple(values) for key, values in sorted(one.values.items())},
                model=parse_charge_model(draft.charge_model, one.properties),
                invoice_display_name=parse_text(one.invoice_display_name, "invoice_display_name"),
            )
        )
    if len({str(one.values) for one in filters}) != len(filters):
        raise InvalidInput(
            "two charge filters name the same values", details={"filters": ["value_is_duplicated"]}
        )
    return tuple(filters)


def _texts(draft: PlanDraft) -> tuple[str, str | None]:
    name = parse_text(draft.name, "name", max_bytes=255) or draft.code
    return name, parse_text(draft.description, "description")
