"""Progressive billing: usage is invoiced within its period when it reaches a threshold, and the period's invoice charges
the rest.

An event of a plan with thresholds has its subscription looked at soon (`infra/watches`), once however many events come
before that; on a test clock when the clock is turned, before anything later happens. A look invoices all usage of the
period so far, less what progressive invoices charged before, when a threshold lies between what had been invoiced and
what has been used; however many were passed, by one invoice. Each is reached once: a table says so, by a unique key.

The period's own invoice charges all its usage, and takes off what the progressive ones charged; what they charged too
much, because usage became cheaper, is given back by a credit note before.
As Lago: https://getlago.com/docs/guide/plans/progressive-billing
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import plan_store
from nozle_server.catalog.model import PlanVersion
from nozle_server.core.periods import Period
from nozle_server.customers import store as customers_store
from nozle_server.infra import watches
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.infra.watch_kinds import PROGRESS
from nozle_server.invoicing import progressive_store
from nozle_server.invoicing.amounts import usage_cents
from nozle_server.invoicing.credit_notes.model import Reason
from nozle_server.invoicing.credit_notes.operations import (
    CreditNoteDraft,
    create_credit_note,
    estimate_credit_note,
)
from nozle_server.invoicing.drafts import InvoiceDraft, ProgressiveCredit
from nozle_server.invoicing.line_taxes import tax_codes_of
from nozle_server.invoicing.model import (
    BillingReason,
    Invoice,
    InvoiceLine,
    InvoiceSubscription,
    InvoiceType,
)
from nozle_server.invoicing.operations import issue_invoice
from nozle_server.invoicing.progressive import Crossing, ProgressiveInvoice, crossed, items_giving_back
from nozle_server.invoicing.usage_lines import rate_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.workflows.announce import announce
from nozle_server.workflows.lifetime_usage import lifetime_usage

USAGE_THRESHOLD_REACHED = "subscription.usage_threshold_reached"


async def progress_watched(
    tx: Tx, org_id: UUID, subscriptions: Sequence[Subscription], versions: Mapping[UUID, PlanVersion]
) -> list[tuple[str, str]]:
    """What is to be touched (`watches.touch`) when these subscriptions were used: nothing where the plan has no
    thresholds, which costs nothing."""
    changed = [(PROGRESS, str(one.id)) for one in subscriptions if versions[one.id].usage_thresholds]
    for kind, key in sorted(changed):
        await watches.watch(tx, org_id, kind, key)
    return changed


async def check_progress(
    tx: Tx, seams: Seams, *, org_id: UUID, watch_id: UUID, now: datetime
) -> Invoice | None:
    """Look whether a subscription's usage has reached a threshold, and invoice it. Harmless when it has not.

    The customer is held first, as whoever changes the subscription does, then the subscription: its period cannot close
    before what is invoiced of it here can be taken off its invoice.
    """
    key = await watches.key_of(tx, org_id, watch_id)
    if key is None:
        return None
    subscription = await subscriptions_store.get(tx, org_id, UUID(key))
    await customers_store.lock_by_id(tx, org_id, subscription.customer_id)
    await watches.begin(tx, org_id, watch_id)
    subscription = await subscriptions_store.hold(tx, org_id, subscription.id)
    version = await plan_store.get_plan_version(tx, org_id, subscription.plan_version_id)
    if subscription.status is not Status.ACTIVE or not version.usage_thresholds:
        await watches.unwatch(tx, org_id, PROGRESS, key)
        return None
    # A look that comes late finds another period open: what the old one used is on its own invoice.
    return await _bill_progress(tx, seams, subscription, version, max(now, subscription.current_period_start))


async def _bill_progress(
    tx: Tx, seams: Seams, subscription: Subscription, version: PlanVersion, now: datetime
) -> Invoice | None:
    org_id = subscription.org_id
    period = Period(subscription.current_period_start, subscription.current_period_end)
    usage = await lifetime_usage(tx, seams, subscription, now=now)
    earlier = await progressive_store.invoices_of_period(tx, org_id, subscription.id, period.start)
    billed_cents = earlier[0].invoice.fees_amount_cents if earlier else 0
    passed = crossed(
        version.usage_thresholds, usage.total_cents - usage.current_cents + billed_cents, usage.total_cents
    )
    chains = await subscriptions_store.first_of_chains(tx, org_id, [subscription.id])
    first = chains.get(subscription.id, subscription.id)
    known = await progressive_store.reached(tx, org_id, first)
    passed = [one for one in passed if (one.threshold.id, one.amount_cents) not in known]
    if not passed:
        return None
    charges = [one for one in version.charges if not one.pay_in_advance]
    rated = await rate_usage(tx, seams, subscription, version, period, now, charges=charges)
    # A minimum is owed when the period ends.
    lines = [line for line in rated if line.true_up_of is None]
    credit = await take_off(tx, seams, earlier, lines, now=now)
    draft = InvoiceDraft(
        org_id=org_id,
        customer_id=subscription.customer_id,
        currency=version.currency,
        lines=tuple(lines),
        invoice_type=InvoiceType.PROGRESSIVE,
        subscriptions=(
            InvoiceSubscription(
                subscription.id,
                BillingReason.PROGRESSIVE,
                period.start,
                period.end,
                period.start,
                period.end,
            ),
        ),
        tax_codes={line.id: tax_codes_of(version, line) for line in lines},
        progressive_credits=credit,
    )
    invoice = await issue_invoice(tx, seams, draft, now=now)
    if invoice is None:
        return None
    await progressive_store.record_reached(
        tx, org_id, first, passed, invoice_id=invoice.id, lifetime_cents=usage.total_cents, now=now
    )
    for one in passed:
        await _announce(tx, seams, subscription, one, invoice, usage.total_cents)
    return invoice


async def take_off(
    tx: Tx,
    seams: Seams,
    earlier: Sequence[ProgressiveInvoice],
    lines: Sequence[InvoiceLine],
    *,
    now: datetime,
) -> tuple[ProgressiveCredit, ...]:
    """What progressive invoices, the latest first, charged of the usage on these lines; what they charged beyond it is
    given back by credit notes, which may pay the invoice that is being made."""
    charged = sum(one.charged_cents for one in earlier)
    excess = charged - usage_cents(lines)
    for one in earlier:
        if excess <= 0:
            break
        back = min(excess, one.charged_cents)
        excess -= back
        await _give_back(tx, seams, one, back, now)
    return credit_of(earlier, lines)


def credit_of(
    earlier: Sequence[ProgressiveInvoice], lines: Sequence[InvoiceLine]
) -> tuple[ProgressiveCredit, ...]:
    """What progressive invoices charged of the usage on these lines, in the name of the latest of them."""
    amount = min(sum(one.charged_cents for one in earlier), usage_cents(lines))
    if amount <= 0:
        return ()
    latest = earlier[0].invoice
    return (ProgressiveCredit(latest.id, latest.number, amount),)


async def _give_back(tx: Tx, seams: Seams, one: ProgressiveInvoice, amount_cents: int, now: datetime) -> None:
    items = items_giving_back(one, amount_cents) if amount_cents else []
    if not items:
        return
    invoice = one.invoice
    estimate = await estimate_credit_note(tx, org_id=invoice.org_id, invoice_id=invoice.id, items=items)
    if estimate.amounts.total_cents <= 0:
        return  # coupons had paid for it
    draft = CreditNoteDraft(
        reason=Reason.OTHER,
        items=items,
        credit_amount_cents=estimate.amounts.total_cents,
        description="Usage became cheaper after it was invoiced",
    )
    await create_credit_note(tx, seams, org_id=invoice.org_id, invoice_id=invoice.id, draft=draft, now=now)


async def _announce(
    tx: Tx, seams: Seams, subscription: Subscription, one: Crossing, invoice: Invoice, lifetime_cents: int
) -> None:
    payload = {
        "external_subscription_id": subscription.external_id,
        "invoice_id": invoice.id,
        "lifetime_usage_amount_cents": lifetime_cents,
        "usage_threshold": {
            "lago_id": one.threshold.id,
            "threshold_display_name": one.threshold.display_name,
            "amount_cents": one.threshold.amount_cents,
            "recurring": one.threshold.recurring,
        },
    }
    await announce(tx, seams, USAGE_THRESHOLD_REACHED, subscription, payload)
