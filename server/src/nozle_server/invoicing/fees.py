"""What a billing period costs apart from its usage, as invoice lines: the plan's fixed fee, fixed charges, and what a
minimum commitment adds. Pure: exact amounts, each settled once."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from nozle_server.catalog.model import FixedCharge, MinimumCommitment, PlanVersion
from nozle_server.core.ids import new_id
from nozle_server.core.periods import Period
from nozle_server.core.rounding import EXACT, divide, to_cents
from nozle_server.invoicing.model import InvoiceLine, LineKind
from nozle_server.rating.rate import Usage, rate
from nozle_server.subscriptions.model import Subscription
from nozle_server.subscriptions.proration import FeeDays, fee_days


def fee_line(
    subscription: Subscription,
    version: PlanVersion,
    plan_name: str,
    period: Period,
    now: datetime,
    *,
    replaced: bool = False,
) -> InvoiceLine:
    """The plan's fixed fee for a billing period or a part of one, by days in the subscription's zone."""
    share = fee_days(subscription, version.interval, period, replaced=replaced)
    exact = prorate(Decimal(version.amount_cents), share)
    step: dict[str, Any] = {
        "kind": "fixed_fee",
        "days": share.days,
        "whole_days": share.whole_days,
        "full_amount_cents": version.amount_cents,
        "amount_cents": exact,
    }
    if share.trial_days:
        step["trial_days"] = share.trial_days
    return InvoiceLine(
        org_id=version.org_id,
        id=new_id(),
        kind=LineKind.SUBSCRIPTION,
        customer_id=subscription.customer_id,
        currency=version.currency,
        created_at=now,
        subscription_id=subscription.id,
        plan_id=version.plan_id,
        plan_version_id=version.id,
        description=version.invoice_display_name or f"{plan_name}, {version.interval} fee",
        units=Decimal(1),
        exact_amount_cents=exact,
        amount_cents=to_cents(exact),
        period_start=period.start,
        period_end=period.end,
        steps=(step,),
        pay_in_advance=version.pay_in_advance,
    )


def fixed_charge_line(
    subscription: Subscription,
    version: PlanVersion,
    charge: FixedCharge,
    name: str,
    period: Period,
    now: datetime,
    *,
    replaced: bool = False,
) -> InvoiceLine:
    """A fixed charge for a period: its units by its model, and by days where it is prorated."""
    rated = rate(charge.model, Usage(charge.units, 0), currency=version.currency)
    exact = rated.exact_amount_cents
    steps: list[Mapping[str, Any]] = [step.to_json() for step in rated.steps]
    if charge.prorated:
        share = fee_days(subscription, version.fixed_charge_interval, period, replaced=replaced, trial=False)
        exact = prorate(exact, share)
        steps.append(
            {
                "kind": "proration",
                "days": share.days,
                "whole_days": share.whole_days,
                "full_amount_cents": rated.exact_amount_cents,
                "amount_cents": exact,
            }
        )
    return InvoiceLine(
        org_id=version.org_id,
        id=new_id(),
        kind=LineKind.FIXED_CHARGE,
        customer_id=subscription.customer_id,
        currency=version.currency,
        created_at=now,
        subscription_id=subscription.id,
        plan_id=version.plan_id,
        plan_version_id=version.id,
        fixed_charge_id=charge.id,
        add_on_id=charge.add_on_id,
        item_code=charge.add_on_code,
        item_name=name,
        description=charge.invoice_display_name or name,
        units=charge.units,
        exact_amount_cents=exact,
        amount_cents=to_cents(exact),
        period_start=period.start,
        period_end=period.end,
        steps=tuple(steps),
        pay_in_advance=charge.pay_in_advance,
    )


def commitment_line(
    subscription: Subscription,
    version: PlanVersion,
    commitment: MinimumCommitment,
    plan_name: str,
    period: Period,
    billed_cents: int,
    now: datetime,
    *,
    replaced: bool = False,
) -> InvoiceLine | None:
    """What is missing of a period's minimum commitment, of which `billed_cents` are billed; None when nothing is."""
    share = fee_days(subscription, version.interval, period, replaced=replaced, trial=False)
    committed = prorate(Decimal(commitment.amount_cents), share)
    with localcontext(EXACT):
        exact = committed - billed_cents
    if to_cents(exact) <= 0:
        return None
    step = {
        "kind": "commitment",
        "days": share.days,
        "whole_days": share.whole_days,
        "full_amount_cents": commitment.amount_cents,
        "committed_cents": committed,
        "billed_cents": billed_cents,
        "amount_cents": exact,
    }
    return InvoiceLine(
        org_id=version.org_id,
        id=new_id(),
        kind=LineKind.COMMITMENT,
        customer_id=subscription.customer_id,
        currency=version.currency,
        created_at=now,
        subscription_id=subscription.id,
        plan_id=version.plan_id,
        plan_version_id=version.id,
        description=commitment.invoice_display_name or f"{plan_name}, minimum commitment",
        units=Decimal(1),
        exact_amount_cents=exact,
        amount_cents=to_cents(exact),
        period_start=period.start,
        period_end=period.end,
        steps=(step,),
    )


def prorate(amount_cents: Decimal, share: FeeDays) -> Decimal:
    """The part of an amount for the days paid, multiplied before it is divided."""
    if share.is_whole:
        return amount_cents
    with localcontext(EXACT):
        return divide(amount_cents * share.days, Decimal(share.whole_days))
