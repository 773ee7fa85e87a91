"""Alerts: tell the merchant when usage has grown to a threshold, or a wallet has shrunk to one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID


class AlertType(StrEnum):
    """What is looked at: amounts in minor units, units of a metric, or credits."""

    CURRENT_USAGE_AMOUNT = "current_usage_amount"
    LIFETIME_USAGE_AMOUNT = "lifetime_usage_amount"
    METRIC_CURRENT_USAGE_AMOUNT = "billable_metric_current_usage_amount"
    METRIC_CURRENT_USAGE_UNITS = "billable_metric_current_usage_units"
    WALLET_BALANCE_AMOUNT = "wallet_balance_amount"
    WALLET_CREDITS_BALANCE = "wallet_credits_balance"
    WALLET_ONGOING_BALANCE_AMOUNT = "wallet_ongoing_balance_amount"
    WALLET_CREDITS_ONGOING_BALANCE = "wallet_credits_ongoing_balance"

    @property
    def of_wallet(self) -> bool:
        return self.value.startswith("wallet_")

    @property
    def of_metric(self) -> bool:
        return self.value.startswith("billable_metric_")

    @property
    def starts_anew(self) -> bool:
        """Whether the value begins at 0 in every billing period."""
        return not self.of_wallet and self is not AlertType.LIFETIME_USAGE_AMOUNT

    @property
    def direction(self) -> "Direction":
        return Direction.DECREASING if self.of_wallet else Direction.INCREASING


class Direction(StrEnum):
    """Which way a value goes to reach a threshold: usage grows, wallets shrink."""

    INCREASING = "increasing"
    DECREASING = "decreasing"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A value; a `recurring` one is a step that repeats beyond the last of the others."""

    value: Decimal
    code: str | None = None
    recurring: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert of a subscription's external id, or of a wallet. It fires once each time a threshold is crossed.

    `previous_value` is what the last look found; for values that start anew with each billing period,
    `previous_period_start` is the period it was found in.
    """

    org_id: UUID
    id: UUID
    external_subscription_id: str | None
    wallet_id: UUID | None
    customer_id: UUID
    alert_type: AlertType
    code: str
    name: str | None
    metric_id: UUID | None
    thresholds: tuple[Threshold, ...]
    previous_value: Decimal
    previous_period_start: datetime | None
    last_processed_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TriggeredAlert:
    """An alert that fired: the values before and after, and the thresholds between them."""

    org_id: UUID
    id: UUID
    alert_id: UUID
    subscription_id: UUID | None
    current_value: Decimal
    previous_value: Decimal
    crossed_thresholds: tuple[Mapping[str, Any], ...]
    triggered_at: datetime
