"""Look at what alerts watch, and tell the merchant what they found."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from nozle_server.alerts import store
from nozle_server.alerts.model import Alert, AlertType, TriggeredAlert
from nozle_server.alerts.operations import ALERT_TRIGGERED, look
from nozle_server.catalog import metric_store
from nozle_server.core.rounding import EXACT
from nozle_server.customers import store as customers_store
from nozle_server.infra import watches
from nozle_server.infra.change_bus import Change
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.infra.watch_kinds import USAGE, WALLETS
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status
from nozle_server.wallets.balances import Figures, figures
from nozle_server.wallets.model import Wallet
from nozle_server.wallets.queries import list_live_wallets
from nozle_server.workflows.announce import usage_counted
from nozle_server.workflows.current_usage import CurrentUsage, current_usage
from nozle_server.workflows.event_facts import KnownSubscription
from nozle_server.workflows.lifetime_usage import lifetime_usage
from nozle_server.workflows.wallet_usage import usage_by_wallet


async def usage_changed(
    tx: Tx,
    seams: Seams,
    org_id: UUID,
    used: Sequence[KnownSubscription],
    now: datetime,
    also: Sequence[tuple[str, str]] = (),
) -> None:
    """Usage of these subscriptions has moved. Have alerts on it, and on the wallets that will pay for it, looked at soon, and
    what else watches it; and tell whoever keeps what their customers may do."""
    if not used:
        return
    subscriptions = [one.subscription for one in used]
    changed = {(USAGE, one.external_id) for one in subscriptions}
    changed |= {(WALLETS, str(one.customer_id)) for one in subscriptions}
    bus = seams.change_bus
    news = bus.promise(tx, usage_counted(org_id, [one.customer for one in used]))
    await watches.touch(tx, org_id, sorted({*changed, *also}), now, news=news, origin=bus.origin)


async def check_usage_alerts(tx: Tx, seams: Seams, *, org_id: UUID, watch_id: UUID, now: datetime) -> None:
    """Look at a subscription's usage as it is in the period around `now`."""
    external_id = await watches.begin(tx, org_id, watch_id)
    if external_id is None:
        return
    alerts = await store.lock_of_subscription(tx, org_id, external_id)
    if not alerts:
        await watches.unwatch(tx, org_id, USAGE, external_id)
        return
    running = [
        one
        for one in await subscriptions_store.list_of_external_id(tx, org_id, external_id)
        if one.status is Status.ACTIVE and one.is_active_at(now)
    ]
    if not running:
        return
    subscription = running[0]
    usage = await current_usage(tx, seams, subscription, now=now, apply_taxes=False)
    for alert in alerts:
        if alert.alert_type is AlertType.LIFETIME_USAGE_AMOUNT:
            value = Decimal((await lifetime_usage(tx, seams, subscription, now=now)).total_cents)
        else:
            value = _used(alert, usage)
        triggered = await look(
            tx,
            alert,
            value=value,
            period_start=usage.period.start,
            subscription_id=subscription.id,
            now=now,
        )
        if triggered is not None:
            await _announce(tx, seams, alert, triggered, wallet=None)


async def check_wallet_alerts(tx: Tx, seams: Seams, *, org_id: UUID, watch_id: UUID, now: datetime) -> None:
    """Look at the balances of a customer's wallets; one that has ended is not looked at any more."""
    key = await watches.begin(tx, org_id, watch_id)
    if key is None:
        return
    customer_id = UUID(key)
    alerts = await store.lock_of_wallets(tx, org_id, customer_id)
    if not alerts:
        await watches.unwatch(tx, org_id, WALLETS, key)
        return
    wallets = {one.id: one for one in await list_live_wallets(tx, org_id, customer_id, now)}
    usage = await usage_by_wallet(tx, seams, org_id=org_id, customer_id=customer_id, now=now)
    for alert in alerts:
        wallet = wallets.get(alert.wallet_id) if alert.wallet_id else None
        if wallet is None:
            continue
        value = _held(alert.alert_type, figures(wallet, usage[wallet.id]))
        triggered = await look(tx, alert, value=value, now=now)
        if triggered is not None:
            await _announce(tx, seams, alert, triggered, wallet=wallet)


async def value_of_wallet(tx: Tx, seams: Seams, wallet: Wallet, alert_type: str, now: datetime) -> Decimal:
    """What a wallet's new alert starts from; 0 for a type that no wallet has."""
    if alert_type not in {one for one in AlertType if one.of_wallet}:
        return Decimal(0)
    usage = await usage_by_wallet(tx, seams, org_id=wallet.org_id, customer_id=wallet.customer_id, now=now)
    return _held(AlertType(alert_type), figures(wallet, usage.get(wallet.id, 0)))


def _used(alert: Alert, usage: CurrentUsage) -> Decimal:
    if alert.alert_type is AlertType.CURRENT_USAGE_AMOUNT:
        return Decimal(usage.amount_cents)
    lines = [line for one in usage.charges if one.metric.id == alert.metric_id for line in one.lines]
    if alert.alert_type is AlertType.METRIC_CURRENT_USAGE_AMOUNT:
        return Decimal(sum(line.amount_cents for line in lines))
    units = Decimal(0)
    for line in lines:
        units = EXACT.add(units, line.units)
    return units


def _held(alert_type: AlertType, shown: Figures) -> Decimal:
    match alert_type:
        case AlertType.WALLET_BALANCE_AMOUNT:
            return Decimal(shown.balance_cents)
        case AlertType.WALLET_CREDITS_BALANCE:
            return shown.credits_balance
        case AlertType.WALLET_ONGOING_BALANCE_AMOUNT:
            return Decimal(shown.ongoing_balance_cents)
        case _:
            return shown.credits_ongoing_balance


async def _announce(
    tx: Tx, seams: Seams, alert: Alert, triggered: TriggeredAlert, *, wallet: Wallet | None
) -> None:
    customer = await customers_store.find_by_id(tx, alert.org_id, alert.customer_id)
    metric = (
        await metric_store.get_metric_by_id(tx, alert.org_id, alert.metric_id) if alert.metric_id else None
    )
    external_customer_id = customer.external_id if customer else None
    payload = {
        "lago_id": triggered.id,
        "nozle_id": triggered.id,
        "lago_organization_id": alert.org_id,
        "lago_alert_id": alert.id,
        "lago_subscription_id": triggered.subscription_id,
        "external_subscription_id": alert.external_subscription_id,
        "subscription_external_id": alert.external_subscription_id,
        "lago_wallet_id": alert.wallet_id,
        "wallet_code": wallet.code if wallet else None,
        "external_customer_id": external_customer_id,
        "customer_external_id": external_customer_id,
        "billable_metric_code": metric.code if metric else None,
        "alert_type": alert.alert_type,
        "alert_code": alert.code,
        "alert_name": alert.name,
        "current_value": triggered.current_value,
        "previous_value": triggered.previous_value,
        "crossed_thresholds": list(triggered.crossed_thresholds),
        "triggered_at": triggered.triggered_at,
    }
    await seams.change_bus.publish(tx, Change(alert.org_id, ALERT_TRIGGERED, str(triggered.id), payload))
