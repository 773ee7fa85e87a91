"""From a draft of a plan, or a change of one, to the version it describes. Pure functions of values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from msgspec import UNSET, UnsetType

from nozle_server.catalog.charge_terms import (
    build_charges,
    build_fixed_charges,
    check_cents,
    check_tax_codes,
)
from nozle_server.catalog.credit_grant_terms import build_credit_grants, change_rollover, check_credit_grants
from nozle_server.catalog.drafts import (
    ChargeDraft,
    FixedChargeDraft,
    MinimumCommitmentDraft,
    PlanChange,
    PlanDraft,
    PlanOverrides,
    PlanTerms,
    UsageThresholdDraft,
    kept,
    said,
)
from nozle_server.catalog.model import (
    AddOn,
    Charge,
    FixedCharge,
    Metric,
    MinimumCommitment,
    PlanVersion,
    UsageThreshold,
)
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.money import is_currency
from nozle_server.core.numbers import parse_amount
from nozle_server.core.periods import Interval
from nozle_server.core.text import parse_text

MAX_CHARGES = 200
MAX_THRESHOLDS = 50
MAX_TRIAL_DAYS = 3660
BILLABLE_MONTHLY = (Interval.SEMIANNUAL, Interval.YEARLY)
"""Intervals in which charges may be billed every month; for others the wish is ignored, as Lago does."""

_NOTHING = UUID(int=0)
_OVERRIDABLE = (
    "amount_cents",
    "trial_days",
    "invoice_display_name",
    "tax_codes",
    "minimum_commitment",
    "usage_thresholds",
)
Priced = TypeVar("Priced", Charge, FixedCharge)
Draft = TypeVar("Draft", ChargeDraft, FixedChargeDraft)


@dataclass(frozen=True, slots=True)
class Sold:
    """The metrics and add-ons that a draft or the version before it names, by code and by id."""

    metrics: Mapping[object, Metric]
    add_ons: Mapping[object, AddOn]


def define_version(
    draft: PlanDraft, sold: Sold, *, org_id: UUID, plan_id: UUID, previous: PlanVersion | None, now: datetime
) -> PlanVersion:
    """The version that a whole definition describes. Of the previous one only ids are kept, of what is the same thing."""
    blank = _blank(org_id, plan_id, now)
    if previous is not None:
        # So that entries without an id find their twins; everything else starts from nothing.
        blank = replace(
            blank,
            charges=previous.charges,
            fixed_charges=previous.fixed_charges,
            usage_thresholds=previous.usage_thresholds,
        )
    whole = PlanChange(
        **{name: getattr(draft, name) for name in PlanTerms.__struct_fields__},
        interval=draft.interval,
        amount_cents=draft.amount_cents,
    )
    whole.charges = said(draft.charges, [])
    whole.fixed_charges = said(draft.fixed_charges, [])
    whole.usage_thresholds = said(draft.usage_thresholds, [])
    version = change_version(whole, sold, base=blank, now=now)
    commitment = version.minimum_commitment
    if commitment and previous and previous.minimum_commitment:
        old = previous.minimum_commitment
        version = replace(
            version, minimum_commitment=replace(commitment, id=old.id, created_at=old.created_at)
        )
    return replace(version, version=previous.version + 1 if previous else 1)


def change_version(change: PlanChange, sold: Sold, *, base: PlanVersion, now: datetime) -> PlanVersion:
    """The version after `base`, with what the change says otherwise."""
    if change.amount_currency and change.currency and change.amount_currency != change.currency:
        raise InvalidInput(
            "currency and amount_currency say different things", details={"amount_currency": ["given_twice"]}
        )
    currency = said(change.amount_currency, "") or said(change.currency, "") or base.currency
    if not is_currency(currency):
        raise InvalidInput(
            "amount_currency is not an ISO 4217 code", details={"amount_currency": ["value_is_invalid"]}
        )
    interval = _interval(kept(change.interval, str(base.interval), ""))
    monthly = interval in BILLABLE_MONTHLY
    _check_length(change.charges, "charges", MAX_CHARGES)
    _check_length(change.fixed_charges, "fixed_charges", MAX_CHARGES)
    credits = _amount(change.credits, base.credits, "credits")
    version = replace(
        base,
        id=new_id(),
        version=base.version + 1,
        created_at=now,
        interval=interval,
        currency=currency,
        amount_cents=check_cents(_required(change.amount_cents, base.amount_cents), "amount_cents"),
        pay_in_advance=kept(change.pay_in_advance, base.pay_in_advance, False),
        credits=credits,
        rollover=change_rollover(change.credits_rollover, base.rollover, credits),
        credit_grants=build_credit_grants(change.credit_grants, base.credit_grants),
        trial_days=_trial_days(change.trial_period, base.trial_days),
        invoice_display_name=parse_text(
            kept(change.invoice_display_name, base.invoice_display_name, None),
            "invoice_display_name",
            max_bytes=255,
        ),
        bill_charges_monthly=monthly and kept(change.bill_charges_monthly, base.bill_charges_monthly, False),
        bill_fixed_charges_monthly=monthly
        and kept(change.bill_fixed_charges_monthly, base.bill_fixed_charges_monthly, False),
        tax_codes=check_tax_codes(said(change.tax_codes, list(base.tax_codes))),
        minimum_commitment=_commitment(change.minimum_commitment, base.minimum_commitment, now),
        usage_thresholds=_thresholds(change.usage_thresholds, base.usage_thresholds, now),
        charges=base.charges
        if change.charges is UNSET or change.charges is None
        else build_charges(change.charges, base.charges, sold.metrics, now),
        fixed_charges=base.fixed_charges
        if change.fixed_charges is UNSET or change.fixed_charges is None
        else build_fixed_charges(change.fixed_charges, base.fixed_charges, sold.add_ons, now),
    )
    check_credit_grants(version)
    return version


def overridden_version(
    overrides: PlanOverrides, sold: Sold, *, base: PlanVersion, now: datetime
) -> PlanVersion:
    """`base` as a single subscription has it: with its number, never the plan's current one. Charges keep their ids."""
    overrides.refuse_unsupported()
    display_name = overrides.invoice_display_name or overrides.name or UNSET
    change = PlanChange(
        invoice_display_name=display_name,
        amount_cents=UNSET if overrides.amount_cents is None else overrides.amount_cents,
        amount_currency=overrides.amount_currency,
        trial_period=overrides.trial_period,
        tax_codes=overrides.tax_codes,
        minimum_commitment=overrides.minimum_commitment or UNSET,
        usage_thresholds=said(overrides.usage_thresholds, []) or UNSET,
        charges=_overriding(
            base.charges,
            {one.id: one for one in said(overrides.charges, [])},
            ChargeDraft,
            "charge_not_found",
        ),
        fixed_charges=_overriding(
            base.fixed_charges,
            {one.id: one for one in said(overrides.fixed_charges, [])},
            FixedChargeDraft,
            "fixed_charge_not_found",
        ),
    )
    version = change_version(change, sold, base=base, now=now)
    return replace(version, version=base.version, overrides=base.overrides or base.id)


def rebase_overrides(
    overridden: PlanVersion, base: PlanVersion, target: PlanVersion, now: datetime
) -> PlanVersion:
    """The subscription's own version when it moves from `base` to `target`: what it had otherwise it keeps, everything
    else is the target's. Charges that the target does not have any more are gone, new ones are there."""

    changed = {
        name: getattr(overridden, name)
        for name in _OVERRIDABLE
        if getattr(overridden, name) != getattr(base, name)
    }
    return replace(
        target,
        **changed,
        id=new_id(),
        created_at=now,
        overrides=target.id,
        charges=_rebased(overridden.charges, base.charges, target.charges),
        fixed_charges=_rebased(overridden.fixed_charges, base.fixed_charges, target.fixed_charges),
    )


def _rebased(own: Sequence[Priced], old: Sequence[Priced], new: Sequence[Priced]) -> tuple[Priced, ...]:
    owned, before = {one.id: one for one in own}, {one.id: one for one in old}
    return tuple(
        owned[one.id] if one.id in owned and owned[one.id] != before.get(one.id) else one for one in new
    )


def same_prices(one: PlanVersion, other: PlanVersion) -> bool:
    """Whether two versions charge the same."""
    return _prices(one) == _prices(other)


def _prices(version: PlanVersion) -> PlanVersion:
    """The version without what does not change a bill: ids, number, instants."""
    start = version.created_at.min
    commitment = version.minimum_commitment
    return replace(
        version,
        id=_NOTHING,
        overrides=None,
        version=0,
        created_at=start,
        charges=tuple(
            replace(
                charge,
                id=_NOTHING,
                created_at=start,
                filters=tuple(replace(one, id=_NOTHING) for one in charge.filters),
            )
            for charge in version.charges
        ),
        fixed_charges=tuple(replace(one, id=_NOTHING, created_at=start) for one in version.fixed_charges),
        minimum_commitment=commitment and replace(commitment, id=_NOTHING, created_at=start),
        usage_thresholds=tuple(
            replace(one, id=_NOTHING, created_at=start) for one in version.usage_thresholds
        ),
    )


def _blank(org_id: UUID, plan_id: UUID, now: datetime) -> PlanVersion:
    """What a plan is that nothing was said about."""
    return PlanVersion(
        org_id=org_id,
        id=new_id(),
        plan_id=plan_id,
        version=0,
        interval=Interval.MONTHLY,
        amount_cents=0,
        currency="USD",
        pay_in_advance=False,
        credits=Decimal(0),
        charges=(),
        created_at=now,
    )


def _interval(name: str) -> Interval:
    try:
        return Interval(name)
    except ValueError:
        raise InvalidInput(
            "interval must be one of " + ", ".join(Interval), details={"interval": ["value_is_invalid"]}
        ) from None


def _required(value: int | UnsetType | None, before: int) -> int:
    if value is None:
        raise InvalidInput("amount_cents is required", details={"amount_cents": ["value_is_mandatory"]})
    return before if value is UNSET else value


def _amount(value: Decimal | UnsetType | None, before: Decimal, field: str) -> Decimal:
    return parse_amount(Decimal(kept(value, before, Decimal(0))), field, minimum=Decimal(0))


def _trial_days(value: Decimal | UnsetType | None, before: Decimal) -> Decimal:
    days = _amount(value, before, "trial_period")
    if days > MAX_TRIAL_DAYS:
        raise InvalidInput(
            f"a trial lasts at most {MAX_TRIAL_DAYS} days",
            details={"trial_period": ["value_is_out_of_range"]},
        )
    return days


def _check_length(entries: Sequence[object] | UnsetType | None, field: str, most: int) -> None:
    if entries and len(entries) > most:
        raise InvalidInput(f"a plan has at most {most} {field}", details={field: ["too_many"]})


def _commitment(
    draft: MinimumCommitmentDraft | UnsetType | None, before: MinimumCommitment | None, now: datetime
) -> MinimumCommitment | None:
    if draft is UNSET or draft is None:
        return before
    if draft.is_empty:
        return None
    amount = said(draft.amount_cents, before.amount_cents if before else 0)
    return MinimumCommitment(
        id=before.id if before else new_id(),
        amount_cents=check_cents(amount, "amount_cents", minimum=1),
        invoice_display_name=parse_text(
            kept(draft.invoice_display_name, before.invoice_display_name if before else None, None),
            "invoice_display_name",
        ),
        tax_codes=check_tax_codes(said(draft.tax_codes, list(before.tax_codes) if before else [])),
        created_at=before.created_at if before else now,
    )


def _thresholds(
    drafts: Sequence[UsageThresholdDraft] | UnsetType | None,
    before: Sequence[UsageThreshold],
    now: datetime,
) -> tuple[UsageThreshold, ...]:
    """In order of amount, the recurring one last. One for the same amount, or with the same id, is the same one."""
    if drafts is UNSET:
        return tuple(before)
    _check_length(drafts, "usage_thresholds", MAX_THRESHOLDS)
    by_id = {one.id: one for one in before}
    by_amount = {(one.amount_cents, one.recurring): one for one in before}
    thresholds = []
    for draft in said(drafts, []):
        recurring = bool(draft.recurring)
        old = by_id.get(draft.id) if draft.id else by_amount.get((draft.amount_cents, recurring))
        thresholds.append(
            UsageThreshold(
                id=old.id if old else new_id(),
                amount_cents=check_cents(draft.amount_cents, "usage_thresholds", minimum=1),
                display_name=parse_text(draft.threshold_display_name, "threshold_display_name"),
                recurring=recurring,
                created_at=old.created_at if old else now,
            )
        )
    amounts = {(one.amount_cents, one.recurring) for one in thresholds}
    if len(amounts) != len(thresholds) or sum(one.recurring for one in thresholds) > 1:
        raise InvalidInput(
            "thresholds have amounts of their own, and one of them at most is recurring",
            details={"usage_thresholds": ["value_already_exist"]},
        )
    return tuple(sorted(thresholds, key=lambda one: (one.recurring, one.amount_cents)))


def _overriding(
    stored: Sequence[Charge] | Sequence[FixedCharge],
    overrides: Mapping[UUID, object],
    kind: type[Draft],
    missing: str,
) -> list[Draft] | UnsetType:
    """A draft for each stored charge: as it is, or as its override says."""
    if not overrides:
        return UNSET
    if overrides.keys() - {one.id for one in stored}:
        raise NotFound("the plan has no such charge", code=missing)
    drafts = []
    for one in stored:
        override = overrides.get(one.id)
        fields = getattr(override, "__struct_fields__", ())
        drafts.append(kind(**{"id": one.id} | {name: getattr(override, name) for name in fields}))
    return drafts
