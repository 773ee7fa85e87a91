"""Use cases that move credits. Each locks the account first: make the row exist, lock it, then decide."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import new_id
from nozle_server.core.rounding import EXACT
from nozle_server.credits import burndown, store
from nozle_server.credits.model import (
    DEFAULT_CREDIT_SYSTEM,
    Account,
    AccountKind,
    Deduction,
    Draw,
    Entry,
    EntryType,
    Grant,
    GrantSource,
)
from nozle_server.customers.queries import unknown_customer
from nozle_server.infra import due
from nozle_server.infra.change_bus import Change, ChangeBus
from nozle_server.infra.database import Tx

EXPIRE_GRANT = "expire_grant"

# What an entry is announced as, after the kind of its account: `credits.granted`, `money.voided`.
_ANNOUNCED = {
    EntryType.GRANT: "granted",
    EntryType.DEDUCT: "deducted",
    EntryType.EXPIRE: "expired",
    EntryType.VOID: "voided",
}


async def grant_credits(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer_id: UUID,
    amount: Decimal,
    source: GrantSource,
    now: datetime,
    expires_at: datetime | None = None,
    priority: int = 50,
    reference: str | None = None,
    description: str | None = None,
    credit_system: str = DEFAULT_CREDIT_SYSTEM,
) -> tuple[Grant, Decimal]:
    """Give `amount` credits; returns the grant and the balance after it.

    With a `reference` a repeat finds the first grant and gives nothing more. InvalidInput for an expiry that has passed.
    """
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("expires_at lies in the past", details={"expires_at": ["value_is_out_of_range"]})
    await store.ensure_account(tx, org_id, customer_id, credit_system, new_id(), now)
    account = await store.lock_account(tx, org_id, customer_id, credit_system)
    assert account is not None, "it was just made to exist"
    account, _ = await _write_off_expired(tx, bus, account, now)
    if reference is not None:
        known = await store.find_grant_by_reference(tx, org_id, account.id, reference)
        if known is not None:
            return known, account.balance
    grant = Grant(new_id(), amount, amount, priority, source, reference, description, expires_at, now)
    entry = await _append_grant(tx, bus, account, grant)
    if expires_at is not None:
        await due.schedule(
            tx, org_id=org_id, kind=EXPIRE_GRANT, subject_id=grant.id, due_at=expires_at, now=now
        )
    return grant, entry.balance_after


async def check_and_deduct(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    customer: str,
    feature: str | None,
    amount: Decimal,
    real_now: datetime,
    entity_id: str | None = None,
    credit_system: str = DEFAULT_CREDIT_SYSTEM,
) -> Deduction:
    """Take `amount` credits if the account of `customer` covers all of them, otherwise none.

    `customer` is the merchant's id; NotFound when it is nobody's. The organization's test clock, read with the account,
    comes before `real_now`.
    """
    found = await store.lock_account_of(tx, org_id, customer, credit_system)
    if found is None:
        raise unknown_customer()
    account, test_now = found
    if account is None:
        return Deduction(allowed=False, remaining=Decimal(0))
    now = test_now or real_now
    account, grants = await _write_off_expired(tx, bus, account, now)
    draws = burndown.plan_draws(grants, amount)
    if draws is None:
        return Deduction(allowed=False, remaining=account.balance)
    entry = _next_entry(
        account, EntryType.DEDUCT, amount.copy_negate(), now, feature=feature, entity_id=entity_id
    )
    await store.append_spending(tx, account, entry, draws)
    await _announce(tx, bus, account, entry)
    return Deduction(allowed=True, remaining=entry.balance_after, entry_id=entry.id)


async def open_money_account(
    tx: Tx, *, org_id: UUID, customer_id: UUID, wallet_id: UUID, now: datetime
) -> UUID:
    """A new account for the money of a wallet; its id. No endpoint of credits ever sees it."""
    account_id = new_id()
    await store.ensure_account(
        tx, org_id, customer_id, str(wallet_id), account_id, now, kind=AccountKind.MONEY
    )
    return account_id


async def put_money(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    account_id: UUID,
    amount: Decimal,
    source: GrantSource,
    priority: int,
    description: str | None,
    now: datetime,
) -> tuple[Grant, Entry]:
    """Give an account `amount` of money, in major units; a lower `priority` is spent earlier."""
    account = await store.lock_account_by_id(tx, org_id, account_id)
    grant = Grant(new_id(), amount, amount, priority, source, None, description, None, now)
    return grant, await _append_grant(tx, bus, account, grant)


async def take_money(
    tx: Tx,
    bus: ChangeBus,
    *,
    org_id: UUID,
    account_id: UUID,
    amount: Decimal,
    kind: EntryType,
    description: str | None,
    now: datetime,
) -> Entry | None:
    """Take `amount` of money, in major units, as an entry of `kind`; None, and nothing is taken, when there is less."""
    account = await store.lock_account_by_id(tx, org_id, account_id)
    draws = burndown.plan_draws(await store.list_live_grants(tx, org_id, account_id), amount)
    if draws is None:
        return None
    entry = _next_entry(account, kind, amount.copy_negate(), now, description=description)
    await store.append_spending(tx, account, entry, draws)
    await _announce(tx, bus, account, entry)
    return entry


async def expire_grant(tx: Tx, bus: ChangeBus, *, org_id: UUID, grant_id: UUID, now: datetime) -> None:
    """What falls due when a grant's time is over; harmless when it was spent or has expired already."""
    found = await store.find_grant(tx, org_id, grant_id)
    if found is None:
        return
    account = await store.lock_account_by_id(tx, org_id, found[0])
    await _write_off_expired(tx, bus, account, now)


async def _write_off_expired(
    tx: Tx, bus: ChangeBus, account: Account, now: datetime
) -> tuple[Account, list[Grant]]:
    """Write off grants whose time is over, so that no deduction can reach them; returns the account as it is then,
    and the grants that can be spent."""
    live = []
    for grant in sorted(
        await store.list_live_grants(tx, account.org_id, account.id), key=burndown.burn_order
    ):
        if grant.is_live(now):
            live.append(grant)
            continue
        entry = _next_entry(
            account, EntryType.EXPIRE, grant.remaining.copy_negate(), now, description=grant.description
        )
        await store.append_spending(tx, account, entry, [Draw(grant.id, grant.remaining)])
        await _announce(tx, bus, account, entry)
        account = replace(
            account,
            balance=entry.balance_after,
            expired=EXACT.add(account.expired, grant.remaining),
            last_sequence=entry.sequence,
        )
    return account, live


def _next_entry(
    account: Account,
    kind: EntryType,
    amount: Decimal,
    now: datetime,
    *,
    feature: str | None = None,
    description: str | None = None,
    entity_id: str | None = None,
) -> Entry:
    return Entry(
        id=new_id(),
        sequence=account.last_sequence + 1,
        type=kind,
        amount=amount,
        balance_after=EXACT.add(account.balance, amount),
        feature=feature,
        description=description,
        entity_id=entity_id,
        occurred_at=now,
    )


async def _append_grant(tx: Tx, bus: ChangeBus, account: Account, grant: Grant) -> Entry:
    entry = _next_entry(
        account, EntryType.GRANT, grant.amount, grant.created_at, description=grant.description
    )
    await store.append_grant(tx, account, grant, entry)
    await _announce(tx, bus, account, entry)
    return entry


async def _announce(tx: Tx, bus: ChangeBus, account: Account, entry: Entry) -> None:
    kind = f"{account.kind}.{_ANNOUNCED[entry.type]}"
    payload = {"entry_id": entry.id, "amount": entry.amount, "balance_after": entry.balance_after}
    await bus.publish(tx, Change(account.org_id, kind, str(account.customer_id), payload))
