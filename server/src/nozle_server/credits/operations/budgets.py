"""Setting and removing budgets. One that is set within a window counts what was spent in it already."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.core.ids import new_id
from nozle_server.credits import book_store, budget_store
from nozle_server.credits.book import Book
from nozle_server.credits.budgets import Usage
from nozle_server.credits.model import Budget, BudgetInterval
from nozle_server.infra.database import Tx


async def open_for_budgets(
    tx: Tx, *, org_id: UUID, customer_id: UUID, credit_system: str, entity: str | None, now: datetime
) -> Book:
    """A customer's account, locked, made where there was none, with the budgets of the customer and of an entity's
    chain; its version is raised, as what decides over it will change."""
    account_id = await book_store.ensure_account(tx, org_id, customer_id, credit_system, new_id(), now)
    await book_store.touch(tx, org_id, customer_id)
    [book] = await book_store.lock(tx, org_id, [account_id], [] if entity is None else [entity])
    return book


async def set_budget(
    tx: Tx,
    book: Book,
    *,
    entity_id: UUID | None,
    interval: BudgetInterval,
    limit: Decimal,
    now: datetime,
) -> tuple[Budget, Usage]:
    """Bound what may be spent within each window of `interval`, by an entity and all below it, or by the customer; one
    that is there gets another limit, and goes on counting. The budget, and the use of its windows."""
    org_id, account_id = book.account.org_id, book.account.id
    known = book.usage.find(entity_id, interval)
    budget = Budget(new_id(), entity_id, interval, limit) if known is None else replace(known, limit=limit)
    if not await budget_store.put_budget(tx, org_id, account_id, budget, now):
        return budget, book.usage
    usage = Usage(book.usage.timezone, [budget], {})
    start, end = usage.window(budget, now)
    spenders = None if entity_id is None else await budget_store.list_below(tx, org_id, entity_id)
    used = await budget_store.count_spent(tx, org_id, account_id, spenders, start, end)
    await budget_store.begin_window(tx, org_id, account_id, budget.id, spenders, start, used)
    usage.add((budget.id, start), used)
    return budget, usage


async def remove_budget(tx: Tx, book: Book, *, entity_id: UUID | None, interval: BudgetInterval) -> Budget:
    """The budget that is gone. NotFound `budget_not_found`."""
    known = book.usage.find(entity_id, interval)
    if known is None:
        raise NotFound("budget not found", code="budget_not_found")
    await budget_store.delete_budget(tx, book.account.org_id, known.id)
    return known
