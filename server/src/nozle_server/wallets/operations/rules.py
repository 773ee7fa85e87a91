"""Recurring rules: from what a caller writes to the one that is stored."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import UNSET

from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import parse_amount
from nozle_server.core.periods import Interval
from nozle_server.infra import due
from nozle_server.infra.database import Tx
from nozle_server.wallets import store
from nozle_server.wallets.drafts import RecurringRuleDraft
from nozle_server.wallets.model import Method, RecurringRule, Trigger, Wallet
from nozle_server.wallets.operations.checks import (
    bought_value,
    check_purchase,
    given_value,
    parse_credits,
    parse_entries,
    parse_expiration,
    parse_name,
    parse_start,
    refused,
)
from nozle_server.wallets.top_ups import next_top_up

RECURRING_TOP_UP = "recurring_top_up"
"""The due item of an interval rule."""


async def replace_rules(
    tx: Tx,
    wallet: Wallet,
    drafts: list[RecurringRuleDraft],
    *,
    first_paid: Decimal,
    first_granted: Decimal,
    timezone: str,
    now: datetime,
) -> None:
    """Make these the wallet's rules: the one that is named is changed, any other ends. InvalidInput for more than one.

    A fixed rule that names no credits repeats those of the wallet's creation (`first_paid`, `first_granted`).
    """
    if len(drafts) > 1:
        raise refused(
            "recurring_transaction_rules", "invalid_number_of_recurring_rules", what="can have one entry"
        )
    if not drafts:
        await store.terminate_rule(tx, wallet.org_id, wallet.id, now)
        return
    try:
        rule = plan_rule(drafts[0], wallet, first_paid=first_paid, first_granted=first_granted, now=now)
    except InvalidInput:
        raise _invalid() from None
    if wallet.rule is None or wallet.rule.id != rule.id:
        await store.terminate_rule(tx, wallet.org_id, wallet.id, now)
    await start_rule(tx, wallet.org_id, rule, timezone=timezone, now=now)


async def start_rule(tx: Tx, org_id: UUID, rule: RecurringRule, *, timezone: str, now: datetime) -> None:
    """Store a rule; of an interval rule, also when it tops up next."""
    if rule.interval is not None:
        at = next_top_up(rule.started_at or rule.created_at, rule.interval, timezone, now)
        rule = replace(rule, next_top_up_at=at)
        await due.schedule(tx, org_id=org_id, kind=RECURRING_TOP_UP, subject_id=rule.id, due_at=at, now=now)
    await store.put_rule(tx, org_id, rule)


def plan_rule(
    draft: RecurringRuleDraft, wallet: Wallet, *, first_paid: Decimal, first_granted: Decimal, now: datetime
) -> RecurringRule:
    """The rule that a draft describes, on top of the wallet's rule when it names that; InvalidInput when it is none."""
    known = wallet.rule if wallet.rule is not None and str(wallet.rule.id) == draft.lago_id else None
    trigger = Trigger(_word(draft.trigger, known.trigger if known else None, tuple(Trigger)))
    method = Method(_word(draft.method or UNSET, known.method if known else Method.FIXED, tuple(Method)))
    interval = None
    if trigger is Trigger.INTERVAL:
        interval = Interval(
            _word(draft.interval or UNSET, known.interval if known else None, tuple(Interval))
        )
    threshold = _decimal(draft.threshold_credits, "threshold_credits")
    if threshold is None and known is not None and known.trigger is Trigger.THRESHOLD:
        threshold = known.threshold_credits
    if trigger is Trigger.THRESHOLD and threshold is None:
        raise _invalid()
    target = _decimal(draft.target_ongoing_balance, "target_ongoing_balance")
    if target is None and known is not None:
        target = known.target_ongoing_balance
    if method is Method.TARGET and (target is None or (threshold is not None and target < threshold)):
        raise _invalid()
    if known is not None:
        first_paid, first_granted = known.paid_credits, known.granted_credits
    elif draft.paid_credits is not None or draft.granted_credits is not None or method is Method.TARGET:
        first_paid = first_granted = Decimal(0)
    paid = first_paid if draft.paid_credits is None else parse_credits(draft.paid_credits, "paid_credits")
    granted = (
        first_granted
        if draft.granted_credits is None
        else parse_credits(draft.granted_credits, "granted_credits")
    )
    requires = draft.invoice_requires_successful_payment
    if requires is None:
        requires = (
            known.invoice_requires_successful_payment if known else wallet.invoice_requires_successful_payment
        )
    ignore = draft.ignore_paid_top_up_limits
    if ignore is None:
        ignore = known is not None and known.ignore_paid_top_up_limits
    rule = RecurringRule(
        id=known.id if known else new_id(),
        wallet_id=wallet.id,
        trigger=trigger,
        method=method,
        interval=interval,
        paid_credits=paid,
        granted_credits=granted,
        threshold_credits=threshold or Decimal(0),
        target_ongoing_balance=target,
        invoice_requires_successful_payment=requires,
        ignore_paid_top_up_limits=ignore,
        transaction_name=known.transaction_name
        if known and draft.transaction_name is UNSET
        else parse_name(draft.transaction_name or None, "transaction_name"),
        transaction_metadata=known.transaction_metadata
        if known and draft.transaction_metadata is UNSET
        else parse_entries(draft.transaction_metadata, "transaction_metadata"),
        started_at=known.started_at if known and draft.started_at is UNSET else parse_start(draft.started_at),
        expiration_at=known.expiration_at
        if known and draft.expiration_at is UNSET
        else parse_expiration(draft.expiration_at, now),
        next_top_up_at=None,
        created_at=known.created_at if known else now,
        updated_at=now,
    )
    check_amounts(rule, wallet)
    return rule


def check_amounts(rule: RecurringRule, wallet: Wallet) -> None:
    """Refuse a rule that could never do what it says: credits worth nothing or too much, a fixed purchase outside the
    wallet's limits for one."""
    try:
        given_value(rule.granted_credits, wallet, "granted_credits")
        bought_value(rule.target_ongoing_balance or Decimal(0), wallet, "paid_credits")
        if rule.method is Method.FIXED:
            check_purchase(rule.paid_credits, wallet, ignore_limits=rule.ignore_paid_top_up_limits)
    except InvalidInput:
        raise _invalid() from None


def _word(value: object, otherwise: object, allowed: tuple[str, ...]) -> str:
    chosen = otherwise if value is UNSET else value
    if chosen not in allowed:
        raise _invalid()
    return str(chosen)


def _decimal(value: object, field: str) -> Decimal | None:
    return None if value is None else parse_amount(value, field)


def _invalid() -> InvalidInput:
    return refused(
        "recurring_transaction_rules", "invalid_recurring_rule", what="has a rule that is not valid"
    )
