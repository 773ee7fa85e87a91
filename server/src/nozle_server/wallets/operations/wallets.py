"""Open, change and end wallets."""

import re
import unicodedata
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import UNSET

from nozle_server.catalog import metric_store
from nozle_server.core.errors import Conflict, InvalidInput
from nozle_server.core.ids import new_id
from nozle_server.core.money import is_currency
from nozle_server.core.numbers import parse_amount
from nozle_server.core.text import parse_id
from nozle_server.credits.model import EntryType
from nozle_server.credits.operations.money import open_money_account, take_money
from nozle_server.customers.model import Customer, CustomerChanges
from nozle_server.customers.operations import upsert_customer
from nozle_server.infra import due
from nozle_server.infra.change_bus import Change, ChangeBus
from nozle_server.infra.database import Tx
from nozle_server.wallets import store
from nozle_server.wallets.drafts import AppliesToDraft, WalletChanges, WalletDraft
from nozle_server.wallets.model import FEE_TYPES, Wallet, WalletStatus
from nozle_server.wallets.operations.checks import (
    parse_credits,
    parse_expiration,
    parse_metadata,
    parse_name,
    parse_priority,
    refused,
)
from nozle_server.wallets.operations.rules import check_amounts, replace_rules
from nozle_server.wallets.queries import get_wallet

WALLET_EXPIRY = "wallet_expiry"
"""The due item of a wallet's expiration."""
WALLET_CREATED = "wallet.created"
WALLET_UPDATED = "wallet.updated"
WALLET_TERMINATED = "wallet.terminated"

MAX_ACTIVE_WALLETS = 5


async def create_wallet(
    tx: Tx, bus: ChangeBus, *, customer: Customer, draft: WalletDraft, timezone: str, now: datetime
) -> Wallet:
    """Open an empty wallet for a customer whose row is held. A customer without a currency gets the wallet's.

    InvalidInput, with Lago's codes, for what the draft has wrong; Conflict `value_already_exist` when an active wallet
    of the customer has the code. What the draft buys and gives is for the caller to add.
    """
    org_id = customer.org_id
    active = await store.list_active(tx, org_id, customer.id)
    if len(active) >= MAX_ACTIVE_WALLETS:
        raise refused("customer", "wallet_limit_reached", what=f"has {MAX_ACTIVE_WALLETS} active wallets")
    currency = await _settle_currency(tx, customer, draft.currency, now)
    fee_types, metric_ids = await _limitations(tx, org_id, draft.applies_to)
    wallet_id = new_id()
    wallet = Wallet(
        org_id=org_id,
        id=wallet_id,
        customer_id=customer.id,
        external_customer_id=customer.external_id,
        account_id=await open_money_account(
            tx, org_id=org_id, customer_id=customer.id, wallet_id=wallet_id, now=now
        ),
        code=_code(draft, {one.code for one in active}, now),
        name=parse_name(draft.name),
        priority=parse_priority(draft.priority),
        rate_amount=parse_amount(
            Decimal(draft.rate_amount), "rate_amount", minimum=Decimal(0), exclusive=True
        ),
        currency=currency,
        status=WalletStatus.ACTIVE,
        balance=Decimal(0),
        consumed_amount=Decimal(0),
        invoice_requires_successful_payment=bool(draft.invoice_requires_successful_payment),
        paid_top_up_min_amount_cents=draft.paid_top_up_min_amount_cents,
        paid_top_up_max_amount_cents=draft.paid_top_up_max_amount_cents,
        fee_types=fee_types or (),
        metric_ids=metric_ids or (),
        metric_codes=(),
        metadata=parse_metadata(draft.metadata),
        expiration_at=parse_expiration(draft.expiration_at, now),
        last_synced_at=None,
        last_consumed_credit_at=None,
        terminated_at=None,
        created_at=now,
        updated_at=now,
        rule=None,
    )
    _check_top_up_limits(wallet)
    if not await store.insert_wallet(tx, wallet):
        raise _code_taken()
    if draft.recurring_transaction_rules:
        await replace_rules(
            tx,
            wallet,
            draft.recurring_transaction_rules,
            first_paid=parse_credits(draft.paid_credits, "paid_credits"),
            first_granted=parse_credits(draft.granted_credits, "granted_credits"),
            timezone=timezone,
            now=now,
        )
    await _schedule_expiry(tx, wallet, now)
    await bus.publish(tx, Change(org_id, WALLET_CREATED, str(wallet.id), {"customer_id": customer.id}))
    return await get_wallet(tx, org_id, wallet.id)


async def update_wallet(
    tx: Tx, bus: ChangeBus, *, wallet: Wallet, changes: WalletChanges, timezone: str, now: datetime
) -> Wallet:
    """Change what is given of a wallet that is held. Its limits take effect from the next invoice on."""
    fee_types, metric_ids = await _limitations(tx, wallet.org_id, changes.applies_to)
    requires = changes.invoice_requires_successful_payment
    changed = replace(
        wallet,
        name=wallet.name if changes.name is UNSET else parse_name(changes.name),
        code=parse_id(changes.code, "code") if changes.code else wallet.code,
        priority=wallet.priority if changes.priority is None else parse_priority(changes.priority),
        expiration_at=wallet.expiration_at
        if changes.expiration_at is UNSET
        else parse_expiration(changes.expiration_at, now),
        invoice_requires_successful_payment=(
            wallet.invoice_requires_successful_payment if requires is None else requires
        ),
        paid_top_up_min_amount_cents=wallet.paid_top_up_min_amount_cents
        if changes.paid_top_up_min_amount_cents is UNSET
        else changes.paid_top_up_min_amount_cents,
        paid_top_up_max_amount_cents=wallet.paid_top_up_max_amount_cents
        if changes.paid_top_up_max_amount_cents is UNSET
        else changes.paid_top_up_max_amount_cents,
        fee_types=wallet.fee_types if fee_types is None else fee_types,
        metric_ids=wallet.metric_ids if metric_ids is None else metric_ids,
        metadata=wallet.metadata if changes.metadata is UNSET else parse_metadata(changes.metadata),
        updated_at=now,
    )
    _check_top_up_limits(changed)
    if changed.code != wallet.code and any(
        one.code == changed.code for one in await store.list_active(tx, wallet.org_id, wallet.customer_id)
    ):
        raise _code_taken()
    await store.update_wallet(tx, changed)
    if changes.recurring_transaction_rules is not None:
        await replace_rules(
            tx,
            changed,
            changes.recurring_transaction_rules,
            first_paid=Decimal(0),
            first_granted=Decimal(0),
            timezone=timezone,
            now=now,
        )
    elif (rule := changed.live_rule(now)) is not None:
        check_amounts(rule, changed)
    await _schedule_expiry(tx, changed, now)
    await bus.publish(tx, Change(wallet.org_id, WALLET_UPDATED, str(wallet.id)))
    return await get_wallet(tx, wallet.org_id, wallet.id)


async def terminate_wallet(tx: Tx, bus: ChangeBus, *, wallet: Wallet, now: datetime) -> Wallet:
    """End a wallet that is held: it pays nothing any more, and what is left of it expires in the ledger. Harmless when
    it has ended already."""
    if wallet.status is WalletStatus.TERMINATED:
        return wallet
    if wallet.balance > 0:
        await take_money(
            tx,
            bus,
            org_id=wallet.org_id,
            account_id=wallet.account_id,
            amount=wallet.balance,
            kind=EntryType.EXPIRE,
            description="the wallet has ended",
            now=now,
        )
    await store.terminate_wallet(tx, wallet.org_id, wallet.id, now)
    payload = {"expired_amount": wallet.balance, "currency": wallet.currency}
    await bus.publish(tx, Change(wallet.org_id, WALLET_TERMINATED, str(wallet.id), payload))
    return await get_wallet(tx, wallet.org_id, wallet.id)


async def _settle_currency(tx: Tx, customer: Customer, wanted: str | None, now: datetime) -> str:
    if not wanted:
        if customer.currency is None:
            raise refused("currency", "value_is_invalid", what="is needed: the customer has none")
        return customer.currency
    if not is_currency(wanted):
        raise refused("currency", "value_is_invalid", what="is not an ISO 4217 code")
    if customer.currency is None:
        changes = CustomerChanges(customer.external_id, {"currency": wanted})
        await upsert_customer(tx, org_id=customer.org_id, changes=changes, now=now)
    elif customer.currency != wanted:
        raise refused("currency", "currencies_does_not_match", what="is not the customer's")
    return wanted


async def _limitations(
    tx: Tx, org_id: UUID, draft: AppliesToDraft | None
) -> tuple[tuple[str, ...] | None, tuple[UUID, ...] | None]:
    """Fee types and metrics of a draft; None for what it does not name."""
    if draft is None:
        return None, None
    types = None if draft.fee_types is UNSET else tuple(dict.fromkeys(draft.fee_types or ()))
    if types and not set(types) <= set(FEE_TYPES):
        raise refused("applies_to", "invalid_limitations", what="has a fee type that does not exist")
    if draft.billable_metric_codes is UNSET:
        return types, None
    codes = list(dict.fromkeys(draft.billable_metric_codes or ()))
    try:
        found = await metric_store.find_metrics(tx, org_id, [parse_id(code, "applies_to") for code in codes])
    except InvalidInput:
        found = {}
    if len(found) != len(codes):
        raise refused("applies_to", "invalid_limitations", what="has a billable metric that does not exist")
    return types, tuple(found[code].id for code in codes)


def _code(draft: WalletDraft, taken: set[str], now: datetime) -> str:
    """The wallet's code: given, else made of its name, with the time behind it when that is taken."""
    if draft.code:
        return parse_id(draft.code, "code")
    plain = unicodedata.normalize("NFKD", draft.name or "").encode("ascii", "ignore").decode().lower()
    code = re.sub(r"[^a-z0-9-]+", "_", plain).strip("_")[:200] or "default"
    return f"{code}_{int(now.timestamp())}" if code in taken else code


def _check_top_up_limits(wallet: Wallet) -> None:
    least, most = wallet.paid_top_up_min_amount_cents, wallet.paid_top_up_max_amount_cents
    for field, value in (("paid_top_up_min_amount_cents", least), ("paid_top_up_max_amount_cents", most)):
        if value is not None and not 0 < value < 10**18:
            raise refused(field, "value_is_out_of_range", what="must be more than 0")
    if least is not None and most is not None and most < least:
        raise refused(
            "paid_top_up_max_amount_cents",
            "must_be_greater_than_or_equal_min",
            what="is less than the smallest top-up",
        )


async def _schedule_expiry(tx: Tx, wallet: Wallet, now: datetime) -> None:
    if wallet.expiration_at is not None:
        await due.schedule(
            tx,
            org_id=wallet.org_id,
            kind=WALLET_EXPIRY,
            subject_id=wallet.id,
            due_at=wallet.expiration_at,
            now=now,
        )


def _code_taken() -> Conflict:
    return Conflict(
        "the customer has an active wallet with this code",
        code="value_already_exist",
        details={"code": ["value_already_exist"]},
    )
