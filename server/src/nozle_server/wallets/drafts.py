"""What a caller writes to make or change a wallet, a recurring rule, a transaction. Field names are Lago's.

A field that is UNSET was not sent; null is a value of its own (it takes an expiration away). Credits are read where
they are used, so that a bad amount carries Lago's codes.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.fields import Amount


class MetadataDraft(msgspec.Struct):
    """One entry of a transaction's metadata."""

    key: str
    value: str


class AppliesToDraft(msgspec.Struct, kw_only=True):
    """What a wallet is limited to."""

    fee_types: list[str] | UnsetType | None = UNSET
    billable_metric_codes: list[str] | UnsetType | None = UNSET


class RecurringRuleDraft(msgspec.Struct, kw_only=True):
    """A recurring top-up; with `lago_id`, a change of one that is there."""

    lago_id: str | None = None
    trigger: str | UnsetType = UNSET
    method: str | UnsetType | None = UNSET
    interval: str | UnsetType | None = UNSET
    paid_credits: object = None
    granted_credits: object = None
    threshold_credits: object = None
    target_ongoing_balance: object = None
    started_at: str | UnsetType | None = UNSET
    expiration_at: str | UnsetType | None = UNSET
    invoice_requires_successful_payment: bool | None = None
    ignore_paid_top_up_limits: bool | None = None
    transaction_name: str | UnsetType | None = UNSET
    transaction_metadata: list[MetadataDraft] | UnsetType | None = UNSET


class WalletDraft(msgspec.Struct, kw_only=True):
    """`POST /wallets`."""

    rate_amount: Amount
    external_customer_id: str | None = None
    currency: str | None = None
    name: str | None = None
    code: str | None = None
    priority: int | None = None
    paid_credits: object = None
    granted_credits: object = None
    expiration_at: str | None = None
    invoice_requires_successful_payment: bool | None = None
    paid_top_up_min_amount_cents: int | None = None
    paid_top_up_max_amount_cents: int | None = None
    ignore_paid_top_up_limits_on_creation: bool | None = None
    transaction_name: str | None = None
    transaction_priority: int | None = None
    transaction_metadata: list[MetadataDraft] | None = None
    recurring_transaction_rules: list[RecurringRuleDraft] | None = None
    applies_to: AppliesToDraft | None = None
    metadata: dict[str, Any] | None = None


class WalletChanges(msgspec.Struct, kw_only=True):
    """`PUT /wallets/{id}`: what is not sent stays. Currency and rate are fixed."""

    name: str | UnsetType | None = UNSET
    code: str | None = None
    priority: int | None = None
    expiration_at: str | UnsetType | None = UNSET
    invoice_requires_successful_payment: bool | None = None
    paid_top_up_min_amount_cents: int | UnsetType | None = UNSET
    paid_top_up_max_amount_cents: int | UnsetType | None = UNSET
    recurring_transaction_rules: list[RecurringRuleDraft] | None = None
    applies_to: AppliesToDraft | None = None
    metadata: dict[str, Any] | UnsetType | None = UNSET


class WalletTransactionDraft(msgspec.Struct, kw_only=True):
    """`POST /wallet_transactions`: up to one transaction each for what is bought, given and taken back."""

    wallet_id: str
    paid_credits: object = None
    granted_credits: object = None
    voided_credits: object = None
    name: str | None = None
    priority: int | None = None
    metadata: list[MetadataDraft] | None = None
    invoice_requires_successful_payment: bool | None = None
    ignore_paid_top_up_limits: bool | None = None
