"""Meter events: one reported use each, immutable once stored."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from nozle_server.core import json


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """An event as it was sent, checked for form but not yet matched to a customer, subscription and metric.

    `value` is the quantity of the direct form (contract 2.3).
    """

    transaction_id: str
    external_customer_id: str | None
    external_subscription_id: str | None
    code: str
    occurred_at: datetime
    properties: Mapping[str, Any]
    value: Decimal | None = None
    precise_total_amount_cents: Decimal | None = None

    def payload_hash(self) -> bytes:
        """What a repeat under the same id must share: customer, code and properties; not the timestamp."""
        value = None if self.value is None else json.number_text(self.value)
        canonical = [self.external_customer_id, self.code, _sorted(self.properties), value]
        return hashlib.sha256(json.dumps(canonical)).digest()


def _sorted(value: object) -> object:
    if isinstance(value, Mapping):
        return [[key, _sorted(value[key])] for key in sorted(value)]
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
