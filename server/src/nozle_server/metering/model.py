"""Meter events: one reported use each, immutable once stored."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from nozle_server.core import json

PAID_BY = "paid_by"
"""The property that tells who paid for an event's usage; `credits` of those whose usage `usage/track` took credits for."""
CREDITS = "credits"
PAID_BY_CREDITS = "paid_by_credits"
"""The `reason` of a stored event whose usage was paid by credits already: it counts, and charges leave it out."""


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """An event as it was sent, checked for form but not yet matched to a customer, subscription and metric.

    `occurred_at` None: when it arrives. `value` is the quantity of the direct form (contract 2.3). `paid`: credits were
    taken for it, in the transaction that stores it.
    """

    transaction_id: str
    external_customer_id: str | None
    external_subscription_id: str | None
    code: str
    occurred_at: datetime | None
    properties: Mapping[str, Any]
    value: Decimal | None = None
    precise_total_amount_cents: Decimal | None = None
    paid: bool = False

    def payload_hash(self) -> bytes:
        """What a repeat under the same id must share: customer, code and properties; not the timestamp."""
        return hashlib.sha256(
            json.canonical([self.external_customer_id, self.code, self.properties, self.value])
        ).digest()
