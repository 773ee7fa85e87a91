"""What a change of plan would cost: the change itself, done and taken back again, so that it cannot differ.

A quote names what was shown for five minutes. It is not stored: its id holds when it ends and a digest of what was shown,
and a change made with it must come to the same.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.errors import Conflict, InvalidInput
from nozle_server.infra.database import Tx, rehearse
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.model import BillingReason
from nozle_server.subscriptions import lifecycle
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.bill import Billed, bill
from nozle_server.workflows.change_plan import PlanChange, change_plan

QUOTE_LIFETIME = timedelta(minutes=5)

_QUOTE = re.compile(r"quo_([0-9a-f]{1,16})_([0-9a-f]{32})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ChangePreview:
    """What a change would do; amounts in minor units. `due_now_cents` is the total of the invoice that it would make,
    `due_at_effective_cents` of the one that a downgrade begins with."""

    change: PlanChange
    due_now_cents: int
    due_at_effective_cents: int
    renewal_at: datetime


async def preview_change(
    tx: Tx, seams: Seams, *, subscription: Subscription, version: PlanVersion, now: datetime
) -> ChangePreview:
    """Work a change out without making it; refused as the change would be. The caller holds the customer's row."""

    async def change_and_look() -> ChangePreview:
        change = await change_plan(tx, seams, subscription=subscription, version=version, now=now)
        later = 0
        if change.pending is not None:
            begun = Billed(replace(change.pending, status=Status.ACTIVE), BillingReason.STARTING)
            invoice = await bill(
                tx, seams, org_id=subscription.org_id, billed=[begun], at=change.effective_at
            )
            later = invoice.total_amount_cents if invoice else 0
        runs = change.subscription
        of_plan = await plan_store.get_plan_version(tx, runs.org_id, runs.plan_version_id)
        at = max(now, runs.started_at)
        return ChangePreview(
            change=change,
            due_now_cents=change.invoice.total_amount_cents if change.invoice else 0,
            due_at_effective_cents=later,
            renewal_at=lifecycle.fee_period(runs, of_plan, at).end,
        )

    return await rehearse(tx, change_and_look)


def quote_id(change: PlanChange, expires_at: datetime) -> str:
    """The name of what a preview showed."""
    digest = _digest(change, expires_at)
    return f"quo_{(expires_at - _EPOCH) // _MICROSECOND:x}_{digest}"


def check_quote(quote: str | None, change: PlanChange, now: datetime) -> None:
    """Conflict `quote_expired` or `quote_stale` when a quote's time is over or the change comes to something else."""
    if quote is None:
        return
    found = _QUOTE.fullmatch(quote)
    if found is None:
        raise InvalidInput("quote_id is not one of ours", details={"quote_id": ["value_is_invalid"]})
    try:
        expires_at = _EPOCH + int(found[1], 16) * _MICROSECOND
    except OverflowError:
        raise InvalidInput(
            "quote_id is not one of ours", details={"quote_id": ["value_is_invalid"]}
        ) from None
    if now >= expires_at:
        raise Conflict("the quote has expired", code="quote_expired")
    if found[2] != _digest(change, expires_at):
        raise Conflict("the change does not cost what the quote said any more", code="quote_stale")


def _digest(change: PlanChange, expires_at: datetime) -> str:
    target = change.pending or change.subscription
    facts = (
        change.before.org_id,
        change.before.id,
        target.plan_version_id,
        change.direction,
        change.pending and change.effective_at,
        change.currency,
        change.credit_cents,
        change.debit_cents,
        change.invoice.total_amount_cents if change.invoice else 0,
        expires_at,
    )
    return hashlib.sha256(repr([str(fact) for fact in facts]).encode()).hexdigest()[:32]
