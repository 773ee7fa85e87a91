"""Define, change and remove alerts, and have them fire."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from msgspec import UNSET

from nozle_server.alerts import store
from nozle_server.alerts.drafts import AlertChanges, AlertDraft, ThresholdDraft
from nozle_server.alerts.model import Alert, AlertType, Threshold, TriggeredAlert
from nozle_server.alerts.thresholds import crossed
from nozle_server.catalog.queries import get_metric
from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.numbers import to_plain
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra import watches
from nozle_server.infra.database import Tx
from nozle_server.infra.watch_kinds import USAGE, WALLETS

ALERT_TRIGGERED = "alert.triggered"
MOST_THRESHOLDS = 20
_OF_FEATURES = {
    "feature_current_usage_amount": AlertType.METRIC_CURRENT_USAGE_AMOUNT,
    "feature_current_usage_units": AlertType.METRIC_CURRENT_USAGE_UNITS,
}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose alerts: a subscription's, by its external id, or a wallet's, with what it has now by alert type."""

    customer_id: UUID
    external_subscription_id: str | None = None
    wallet_id: UUID | None = None

    @property
    def watched(self) -> tuple[str, str]:
        if self.external_subscription_id is not None:
            return USAGE, self.external_subscription_id
        return WALLETS, str(self.customer_id)


async def create_alert(
    tx: Tx, *, org_id: UUID, owner: Owner, draft: AlertDraft, now: datetime, value: Decimal | None = None
) -> Alert:
    """A new alert, and a first look at it. `value` is what a wallet has now: what lies behind it fires nothing; usage
    starts at 0, so that a threshold which is reached already fires once.

    InvalidInput with Lago's codes, NotFound `billable_metric_not_found`.
    """
    alert_type = _type(draft.alert_type, of_wallet=owner.wallet_id is not None)
    alert = Alert(
        org_id=org_id,
        id=new_id(),
        external_subscription_id=owner.external_subscription_id,
        wallet_id=owner.wallet_id,
        customer_id=owner.customer_id,
        alert_type=alert_type,
        code=parse_id(draft.code, "code"),
        name=parse_text(draft.name, "name", max_bytes=255),
        metric_id=await _metric(tx, org_id, alert_type, draft.billable_metric_code or draft.feature_code),
        thresholds=_thresholds(draft.thresholds),
        previous_value=value or Decimal(0),
        previous_period_start=None,
        last_processed_at=None,
        created_at=now,
        updated_at=now,
    )
    await watches.watch(tx, org_id, *owner.watched)
    await watches.touch(tx, org_id, [owner.watched], now)
    await store.insert(tx, alert)
    return alert


async def update_alert(
    tx: Tx, *, org_id: UUID, owner: Owner, code: str, changes: AlertChanges, now: datetime
) -> Alert:
    """Change what is given; the type stays. NotFound `alert_not_found`."""
    # The watch before the alert, as who looks locks them.
    await watches.touch(tx, org_id, [owner.watched], now)
    alert = replace(await get_alert(tx, org_id, owner, code), updated_at=now)
    if changes.code is not UNSET:
        alert = replace(alert, code=parse_id(changes.code, "code"))
    if changes.name is not UNSET:
        alert = replace(alert, name=parse_text(changes.name, "name", max_bytes=255))
    metric_code = changes.billable_metric_code or changes.feature_code
    if isinstance(metric_code, str):
        alert = replace(alert, metric_id=await _metric(tx, org_id, alert.alert_type, metric_code))
    if changes.thresholds is not UNSET:
        alert = replace(alert, thresholds=_thresholds(changes.thresholds))
    await store.update(tx, alert)
    return alert


async def get_alert(tx: Tx, org_id: UUID, owner: Owner, code: str) -> Alert:
    """NotFound `alert_not_found`."""
    alert = await store.lock(
        tx,
        org_id,
        parse_id(code, "code"),
        external_subscription_id=owner.external_subscription_id,
        wallet_id=owner.wallet_id,
    )
    if alert is None:
        raise NotFound("alert not found", code="alert_not_found")
    return alert


async def delete_alert(tx: Tx, *, org_id: UUID, owner: Owner, code: str, now: datetime) -> Alert:
    alert = await get_alert(tx, org_id, owner, code)
    await store.mark_deleted(tx, org_id, [alert.id], now)
    return alert


async def delete_alerts(tx: Tx, *, org_id: UUID, owner: Owner, now: datetime) -> None:
    """Remove all alerts of a subscription or a wallet."""
    alerts, _ = await store.list_page(
        tx,
        org_id,
        external_subscription_id=owner.external_subscription_id,
        wallet_id=owner.wallet_id,
        limit=None,
        offset=0,
    )
    await store.mark_deleted(tx, org_id, [alert.id for alert in alerts], now)


async def look(
    tx: Tx,
    alert: Alert,
    *,
    value: Decimal,
    period_start: datetime | None = None,
    subscription_id: UUID | None = None,
    now: datetime,
) -> TriggeredAlert | None:
    """Compare a value with the last one found, and remember it; what fired when it crossed thresholds, stored.

    In a new billing period (`period_start`) a value that starts anew comes from 0.
    """
    before = alert.previous_value
    if alert.alert_type.starts_anew and period_start != alert.previous_period_start:
        before = Decimal(0)
    reached = crossed(alert.thresholds, before, value, alert.alert_type.direction)
    await store.update(
        tx,
        replace(alert, previous_value=value, previous_period_start=period_start, last_processed_at=now),
    )
    if not reached:
        return None
    triggered = TriggeredAlert(
        org_id=alert.org_id,
        id=new_id(),
        alert_id=alert.id,
        subscription_id=subscription_id,
        current_value=value,
        previous_value=before,
        crossed_thresholds=tuple(
            {"code": one.code, "value": to_plain(one.value), "recurring": one.recurring} for one in reached
        ),
        triggered_at=now,
    )
    await store.insert_triggered(tx, triggered)
    return triggered


def _type(text: str, *, of_wallet: bool) -> AlertType:
    try:
        alert_type = _OF_FEATURES.get(text) or AlertType(text)
    except ValueError:
        raise _refused("alert_type", "invalid_type") from None
    if alert_type.of_wallet != of_wallet:
        raise _refused("alert_type", "invalid_type")
    return alert_type


async def _metric(tx: Tx, org_id: UUID, alert_type: AlertType, code: str | None) -> UUID | None:
    if alert_type.of_metric and code is None:
        raise _refused("billable_metric", "value_is_mandatory")
    if code is None:
        return None
    if not alert_type.of_metric:
        raise _refused("billable_metric", "value_must_be_blank")
    return (await get_metric(tx, org_id, code)).id


def _thresholds(drafts: Sequence[ThresholdDraft]) -> tuple[Threshold, ...]:
    if not drafts:
        raise _refused("thresholds", "value_is_mandatory")
    if len(drafts) > MOST_THRESHOLDS:
        raise _refused("thresholds", "too_many_thresholds")
    thresholds = tuple(
        Threshold(
            Decimal(one.value), parse_text(one.code, "thresholds.code", max_bytes=255), bool(one.recurring)
        )
        for one in drafts
    )
    once = [one.value for one in thresholds if not one.recurring]
    if len(set(once)) < len(once):
        raise _refused("thresholds", "duplicate_threshold_values")
    steps = [one.value for one in thresholds if one.recurring]
    if len(steps) > 1:
        raise _refused("thresholds", "too_many_recurring_thresholds")
    if any(step <= 0 for step in steps):
        raise _refused("thresholds", "value_is_out_of_range")
    return thresholds


def _refused(field: str, code: str) -> InvalidInput:
    return InvalidInput(f"{field} cannot have this value", details={field: [code]})
