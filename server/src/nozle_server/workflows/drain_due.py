"""Do what has fallen due for an organization, in order, each item at its own instant.

Items of one kind and instant that many subscriptions have are done in batches, a transaction each, others one by one. A
batch that fails is tried again in smaller ones. An item that fails for a reason of its own is put aside with its error,
so that one absurd bill does not stop everybody else's; what fails because the database cannot be had is left where it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from nozle_server.credits.book_writes import RELEASE_HOLDS
from nozle_server.credits.operations.grants import EXPIRE_GRANT, advance, expire_grant
from nozle_server.identity import clock_store
from nozle_server.infra import due
from nozle_server.infra.database import Database, Tx, is_database_fault
from nozle_server.infra.due import DueItem
from nozle_server.infra.seams import Seams
from nozle_server.infra.watch_kinds import PROGRESS, USAGE, WALLETS
from nozle_server.invoicing.operations import FINALIZE_INVOICE, fail_draft
from nozle_server.wallets.operations.invoices import WALLET_THRESHOLD
from nozle_server.wallets.operations.rules import RECURRING_TOP_UP
from nozle_server.wallets.operations.wallets import WALLET_EXPIRY
from nozle_server.workflows.adjust_periods import ADJUST_PERIODS
from nozle_server.workflows.advance_clock import advance_clock
from nozle_server.workflows.bill import bill_corrections
from nozle_server.workflows.bill_progress import check_progress
from nozle_server.workflows.check_alerts import check_usage_alerts, check_wallet_alerts
from nozle_server.workflows.close_period import (
    INVOICE_PERIOD,
    close_period,
    finalize_draft,
    invoice_failed,
    invoice_period,
)
from nozle_server.workflows.end_of_month import close_periods, invoice_periods
from nozle_server.workflows.grant_plan_credits import PLAN_CREDITS, grant_when_due
from nozle_server.workflows.open_period import PERIOD_END
from nozle_server.workflows.start_subscription import SUBSCRIPTION_START, TRIAL_END, begin, end_trial
from nozle_server.workflows.top_up_wallet import check_threshold, expire_wallet, run_interval_rule

log = structlog.get_logger()


MOST_AT_ONCE = 100
MOST_LOSSES = 3
"""How often a worker may die of one item, after it was first noticed that one did, until the item is put aside."""
LONGEST_S = 1.0


class ItemsFailed(Exception):
    """Carries items out of the transaction that their failure rolled back."""

    def __init__(self, items: Sequence[DueItem]) -> None:
        super().__init__(items[0].kind)
        self.items = items


@dataclass(slots=True)
class _Pace:
    """How many items to do at once: more while that is quick, so that no transaction holds anything for long."""

    at_once: int = 1

    def took(self, items: int, seconds: float) -> None:
        if seconds > LONGEST_S:
            self.at_once = max(1, items // 2)
        elif items >= self.at_once:
            self.at_once = min(2 * self.at_once, MOST_AT_ONCE)

    def failed(self, items: int) -> None:
        self.at_once = max(1, items // 4)


async def drain_due(
    database: Database,
    seams: Seams,
    *,
    org_id: UUID,
    until: datetime,
    turn_clock: bool = False,
    careful: asyncio.Lock | None = None,
) -> int:
    """Run everything due at or before `until`; returns how many items were done or put aside.

    `turn_clock` moves the organization's test clock to each item's instant. A kill in the middle loses nothing: an
    item and its effect commit together, and the rest is still there. `careful` is for after such a kill: it may have been
    an item's own doing, so each is done alone, and one that a worker dies of again and again is put aside. It is the lock
    of this process under which items are done that a worker died over before: with two of these at once, the harmless one
    would be blamed for what the other does.
    """
    count = 0
    pace = _Pace()

    async def step() -> int | None:
        return await _step(database, seams, org_id, until, pace, turn_clock=turn_clock)

    while True:
        started = asyncio.get_running_loop().time()
        done = await (
            step() if careful is None else _carefully(database, seams, org_id, until, careful, step)
        )
        if done is None:
            return count
        count += done
        if done and careful is None:
            pace.took(done, asyncio.get_running_loop().time() - started)


async def _carefully(
    database: Database,
    seams: Seams,
    org_id: UUID,
    until: datetime,
    suspects: asyncio.Lock,
    step: Callable[[], Awaitable[int | None]],
) -> int | None:
    """A step whose item is noted as begun before; one that was begun before waits until no other such one is."""
    if await database.run(lambda tx: _note_try(tx, seams, org_id, until, first=True)):
        return await step()
    async with suspects:
        await database.run(lambda tx: _note_try(tx, seams, org_id, until, first=False))
        return await step()


async def _step(
    database: Database, seams: Seams, org_id: UUID, until: datetime, pace: _Pace, *, turn_clock: bool
) -> int | None:
    """How many items were done or put aside; None when nothing is due any more."""
    try:
        return await database.run(
            lambda tx: _do_next(tx, seams, org_id, until, pace.at_once, turn_clock=turn_clock)
        )
    except ItemsFailed as failed:
        cause = failed.__cause__
        if len(failed.items) > 1:
            kind, items = failed.items[0].kind, len(failed.items)
            log.warning("due_batch_failed", kind=kind, items=items, error=repr(cause))
            pace.failed(items)
            return 0
        [item] = failed.items
        log.error("due_item_parked", kind=item.kind, subject_id=str(item.subject_id), exc_info=cause)
        reason = f"{type(cause).__name__}: {cause}"
        await database.run(lambda tx: _put_aside(tx, seams, item, reason))
        return 1


async def _note_try(tx: Tx, seams: Seams, org_id: UUID, until: datetime, *, first: bool) -> bool:
    """Whether that is so; of an item that was begun before it is not when this must be the `first` time."""
    item = await due.next_due(tx, org_id, until, kinds=ORDER)
    if item is None:
        return True
    tries = await due.count_try(tx, item, first=first)
    if tries is not None and tries > MOST_LOSSES:
        log.error("due_item_parked", kind=item.kind, subject_id=str(item.subject_id), losses=MOST_LOSSES)
        await _put_aside(tx, seams, item, f"the worker died each of {MOST_LOSSES} times that it was begun")
    return tries is not None


async def _put_aside(tx: Tx, seams: Seams, item: DueItem, reason: str) -> None:
    """An invoice that failed is kept as such, to be seen and retried; anything else is parked."""
    if item.kind == INVOICE_PERIOD:
        await invoice_failed(
            tx,
            seams,
            org_id=item.org_id,
            subscription_id=item.subject_id,
            ended_at=item.due_at,
            error=reason,
        )
        await due.finish(tx, item)
    elif item.kind == FINALIZE_INVOICE:
        await fail_draft(
            tx, seams, org_id=item.org_id, invoice_id=item.subject_id, error=reason, now=item.due_at
        )
        await due.finish(tx, item)
    else:
        await due.park(tx, item, reason)


async def _do_next(
    tx: Tx, seams: Seams, org_id: UUID, until: datetime, at_once: int, *, turn_clock: bool
) -> int | None:
    if not turn_clock and await clock_store.hold_test_clock(tx, org_id) is not None:
        return None  # the clock was turned meanwhile: from now on turning it does what is due
    item = await due.next_due(tx, org_id, until, kinds=ORDER)
    if item is None:
        return None
    if turn_clock:
        await advance_clock(tx, seams, org_id, item.due_at)
    items = [item]
    if at_once > 1 and item.kind in TOGETHER:
        items += await due.more_due(tx, item, at_once - 1)
    try:
        if len(items) > 1:
            items = list(await TOGETHER[item.kind](tx, seams, items))
        else:
            await HANDLERS[item.kind](tx, seams, item)
        await due.finish_all(tx, items)
        # What the database checks at the commit only, such as an invoice's total, it checks here: a refusal is these
        # items' own, and must not hold up the others.
        await tx.execute("set constraints all immediate")
    except Exception as error:
        if is_database_fault(error):
            raise
        raise ItemsFailed(items) from error
    return len(items)


async def _expire(tx: Tx, seams: Seams, item: DueItem) -> None:
    await expire_grant(tx, seams.change_bus, org_id=item.org_id, grant_id=item.subject_id, now=item.due_at)


async def _release(tx: Tx, seams: Seams, item: DueItem) -> None:
    await advance(tx, seams.change_bus, org_id=item.org_id, account_id=item.subject_id, now=item.due_at)


async def _close(tx: Tx, seams: Seams, item: DueItem) -> None:
    await close_period(tx, seams, org_id=item.org_id, subscription_id=item.subject_id, now=item.due_at)


async def _invoice(tx: Tx, seams: Seams, item: DueItem) -> None:
    await invoice_period(tx, seams, org_id=item.org_id, subscription_id=item.subject_id, ended_at=item.due_at)


async def _start(tx: Tx, seams: Seams, item: DueItem) -> None:
    await begin(tx, seams, org_id=item.org_id, subscription_id=item.subject_id, now=item.due_at)


async def _grant_plan_credits(tx: Tx, seams: Seams, item: DueItem) -> None:
    await grant_when_due(tx, seams, org_id=item.org_id, subscription_id=item.subject_id, now=item.due_at)


async def _end_trial(tx: Tx, seams: Seams, item: DueItem) -> None:
    await end_trial(tx, seams, org_id=item.org_id, subscription_id=item.subject_id, now=item.due_at)


async def _finalize(tx: Tx, seams: Seams, item: DueItem) -> None:
    await finalize_draft(tx, seams, org_id=item.org_id, invoice_id=item.subject_id, now=item.due_at)


async def _expire_wallet(tx: Tx, seams: Seams, item: DueItem) -> None:
    await expire_wallet(tx, seams, org_id=item.org_id, wallet_id=item.subject_id, now=item.due_at)


async def _top_up(tx: Tx, seams: Seams, item: DueItem) -> None:
    await run_interval_rule(tx, seams, org_id=item.org_id, rule_id=item.subject_id, due_at=item.due_at)


async def _check_threshold(tx: Tx, seams: Seams, item: DueItem) -> None:
    await check_threshold(tx, seams, org_id=item.org_id, wallet_id=item.subject_id, now=item.due_at)


async def _adjust(tx: Tx, seams: Seams, item: DueItem) -> None:
    await bill_corrections(tx, seams, org_id=item.org_id, subscription_id=item.subject_id, now=item.due_at)


async def _check_usage_alerts(tx: Tx, seams: Seams, item: DueItem) -> None:
    await check_usage_alerts(tx, seams, org_id=item.org_id, watch_id=item.subject_id, now=item.due_at)


async def _check_wallet_alerts(tx: Tx, seams: Seams, item: DueItem) -> None:
    await check_wallet_alerts(tx, seams, org_id=item.org_id, watch_id=item.subject_id, now=item.due_at)


async def _check_progress(tx: Tx, seams: Seams, item: DueItem) -> None:
    await check_progress(tx, seams, org_id=item.org_id, watch_id=item.subject_id, now=item.due_at)


# Of what falls due at one instant, in this order: every customer gets the new period and its credits, into which what is left
# of the old period's may be carried; then other credits end, wallets are topped up, drafts whose grace is over become final,
# then the invoices of what ended are made, and the wallets that paid them looked after. Kinds that are not here belong to a
# newer release and are left to it.
HANDLERS: Mapping[str, Callable[[Tx, Seams, DueItem], Awaitable[None]]] = {
    RELEASE_HOLDS: _release,
    WALLET_EXPIRY: _expire_wallet,
    PERIOD_END: _close,
    SUBSCRIPTION_START: _start,
    PLAN_CREDITS: _grant_plan_credits,
    EXPIRE_GRANT: _expire,
    RECURRING_TOP_UP: _top_up,
    FINALIZE_INVOICE: _finalize,
    INVOICE_PERIOD: _invoice,
    TRIAL_END: _end_trial,
    ADJUST_PERIODS: _adjust,
    PROGRESS: _check_progress,
    WALLET_THRESHOLD: _check_threshold,
    USAGE: _check_usage_alerts,
    WALLETS: _check_wallet_alerts,
}
ORDER = tuple(HANDLERS)

# What many subscriptions have at one instant; returns the items, from the first on, that are done.
TOGETHER: Mapping[str, Callable[[Tx, Seams, Sequence[DueItem]], Awaitable[Sequence[DueItem]]]] = {
    PERIOD_END: close_periods,
    INVOICE_PERIOD: invoice_periods,
}
