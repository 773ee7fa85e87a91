"""Low-balance alerts and automatic top-up: what is watched for, and what answers a wish."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.core.errors import Conflict, NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits import book_store, giving, watch_store
from nozle_server.credits.book import Book
from nozle_server.credits.model import ZERO, Grant, GrantSource
from nozle_server.credits.watching import Alert, RuleStatus, TopUpRule, wish
from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.database import Tx


async def open_book(tx: Tx, *, org_id: UUID, customer_id: UUID, credit_system: str, now: datetime) -> Book:
    """A customer's account, locked, made where there was none; its version is raised, as what watches it will change."""
    account_id = await book_store.ensure_account(tx, org_id, customer_id, credit_system, new_id(), now)
    await book_store.touch(tx, org_id, customer_id)
    [book] = await book_store.lock(tx, org_id, [account_id])
    return book


async def set_alert(tx: Tx, book: Book, alert: Alert, now: datetime) -> None:
    """Have it told when the credits fall below a threshold, from now on; one of the same code is replaced."""
    await watch_store.put_alert(tx, book.account.org_id, book.account.id, alert, now)


async def remove_alert(tx: Tx, book: Book, code: str) -> Alert:
    """NotFound `alert_not_found`."""
    removed = await watch_store.delete_alert(tx, book.account.org_id, book.account.id, code)
    if removed is None:
        raise NotFound("alert not found", code="alert_not_found")
    return removed


async def set_top_up_rule(tx: Tx, bus: ChangeBus, book: Book, wanted: TopUpRule, now: datetime) -> TopUpRule:
    """Have credits wished for when they run low; at once when they are low already. A rule that was there is replaced;
    the wish that waits for its answer and what was wished for this month stay."""
    book.advance(now)
    known = book.rule
    rule = wanted
    if known is not None:
        rule = replace(
            wanted,
            wish_id=known.wish_id,
            wished_at=known.wished_at,
            month_start=known.month_start,
            wished_in_month=known.wished_in_month,
        )
    await watch_store.put_rule(tx, book.account.org_id, book.account.id, rule, now)
    book.rule = rule
    await _wish(tx, bus, book, now)
    assert book.rule is not None, "it was just set"
    return book.rule


async def remove_top_up_rule(tx: Tx, book: Book) -> TopUpRule:
    """The rule that is gone; a wish of its can still be answered by a grant, as any other. NotFound
    `top_up_rule_not_found`."""
    if book.rule is None or not await watch_store.delete_rule(tx, book.account.org_id, book.account.id):
        raise rule_not_found()
    return book.rule


async def answer_top_up(
    tx: Tx,
    bus: ChangeBus,
    book: Book,
    wish_id: UUID,
    now: datetime,
    *,
    grant: Grant | None,
) -> Grant | None:
    """Answer the wish that waits: with a grant of what was bought, or by declining it (None), which pauses the rule.

    Conflict `top_up_answered` for a wish that does not wait (any more).
    """
    rule = book.rule
    if rule is None or rule.wish_id != wish_id:
        raise Conflict("this top-up does not wait for an answer", code="top_up_answered")
    book.advance(now)
    book.rule = replace(rule, wish_id=None, wished_at=None)
    if grant is None:
        # What was declined was not bought, and counts in no month.
        unwished = max(ZERO, EXACT.subtract(rule.wished_in_month, rule.amount))
        book.rule = replace(book.rule, status=RuleStatus.PAUSED, wished_in_month=unwished)
    book.changes.rule = book.rule
    if grant is not None:
        assert grant.source is GrantSource.TOP_UP, "a wish is answered by what was bought"
        giving.give(book, grant, now)
    await book_store.save(tx, bus, [book])
    return grant


def rule_not_found() -> NotFound:
    return NotFound("top-up rule not found", code="top_up_rule_not_found")


async def _wish(tx: Tx, bus: ChangeBus, book: Book, now: datetime) -> None:
    """Wish at once where credits are low already."""
    assert book.rule is not None, "only a rule wishes"
    wished = wish(book.rule, book.available(), now, book.usage.timezone)
    if wished is not None:
        book.rule, fact = wished
        book.changes.rule = book.rule
        book.changes.facts.append(fact)
    await book_store.save(tx, bus, [book])
