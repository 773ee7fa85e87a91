"""What a caller writes to make or change an alert; the names are Lago's. A feature's name for a metric is taken too."""

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.fields import Amount


class ThresholdDraft(msgspec.Struct, kw_only=True):
    value: Amount
    code: str | None = None
    recurring: bool | None = None


class AlertDraft(msgspec.Struct, kw_only=True):
    """`billable_metric_code` (or `feature_code`) for the types that look at one metric."""

    alert_type: str
    code: str
    name: str | None = None
    billable_metric_code: str | None = None
    feature_code: str | None = None
    thresholds: list[ThresholdDraft] = msgspec.field(default_factory=list)


class AlertChanges(msgspec.Struct, kw_only=True):
    """What is left out stays; `thresholds` replace what was there."""

    code: str | UnsetType = UNSET
    name: str | UnsetType | None = UNSET
    billable_metric_code: str | UnsetType | None = UNSET
    feature_code: str | UnsetType | None = UNSET
    thresholds: list[ThresholdDraft] | UnsetType = UNSET
