"""Credit what a subscription that ended within its billing period paid in advance and did not use."""

from datetime import datetime

from nozle_server.catalog import plan_store
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.invoicing.credit_notes.model import CreditNote
from nozle_server.invoicing.credit_notes.unused import credit_unused_fee
from nozle_server.invoicing.model import Invoice, LineKind
from nozle_server.subscriptions import store
from nozle_server.subscriptions.model import Status, Subscription


async def credit_unused(tx: Tx, seams: Seams, ended: Subscription, *, now: datetime) -> CreditNote | None:
    """Once for each subscription, when it ends. Another plan in its place: as a credit; else as the subscription says.

    Where the fee is on a draft, `credit_of_final` follows when that is final.
    """
    assert ended.terminated_at is not None, "only what has ended leaves something unused"
    version = await plan_store.get_plan_version(tx, ended.org_id, ended.plan_version_id)
    successor = await store.find_successor(tx, ended.org_id, ended.id)
    replaced = successor is not None and successor.started_at == ended.terminated_at
    return await credit_unused_fee(
        tx,
        seams,
        subscription=ended,
        version=version,
        terminated_at=ended.terminated_at,
        how=None if replaced else ended.on_termination_credit_note,
        now=now,
        replaced=replaced,
    )


async def credit_of_final(tx: Tx, seams: Seams, invoice: Invoice, *, now: datetime) -> None:
    """A draft has become final: subscriptions that ended meanwhile are credited for what it charged them in advance."""
    in_advance = {
        line.subscription_id
        for line in invoice.lines
        if line.kind is LineKind.SUBSCRIPTION and line.pay_in_advance and line.subscription_id is not None
    }
    for subscription_id in sorted(in_advance):
        subscription = await store.get(tx, invoice.org_id, subscription_id)
        if subscription.status is Status.TERMINATED:
            await credit_unused(tx, seams, subscription, now=now)
