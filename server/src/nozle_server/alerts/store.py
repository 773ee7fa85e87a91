"""All SQL of alerts, and rows <-> values."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from nozle_server.alerts.model import Alert, AlertType, Threshold, TriggeredAlert
from nozle_server.core.errors import InvalidInput
from nozle_server.core.numbers import to_plain
from nozle_server.infra.database import Tx

_NAMES = tuple(field.name for field in fields(Alert))
_COLUMNS = ", ".join(_NAMES)
_TRIGGERED = tuple(field.name for field in fields(TriggeredAlert))
_TAKEN = {
    "alerts_code_of_subscription": {"code": ["value_already_exist"]},
    "alerts_code_of_wallet": {"code": ["value_already_exist"]},
    "alerts_type_of_subscription": {"base": ["alert_already_exists"]},
    "alerts_type_of_wallet": {"base": ["alert_already_exists"]},
}


def from_row(row: asyncpg.Record) -> Alert:
    values = {name: row[name] for name in _NAMES}
    values["alert_type"] = AlertType(values["alert_type"])
    values["thresholds"] = tuple(
        Threshold(Decimal(one["value"]), one["code"], one["recurring"]) for one in values["thresholds"]
    )
    return Alert(**values)


def _values(alert: Alert) -> list[Any]:
    thresholds = [
        {"value": to_plain(one.value), "code": one.code, "recurring": one.recurring}
        for one in alert.thresholds
    ]
    return [thresholds if name == "thresholds" else getattr(alert, name) for name in _NAMES]


async def insert(tx: Tx, alert: Alert) -> None:
    """InvalidInput when the code is taken, or the subscription or wallet has an alert of this kind."""
    places = ", ".join(f"${n}" for n in range(1, len(_NAMES) + 1))
    await _write(tx, f"insert into alerts ({_COLUMNS}) values ({places})", alert)


async def update(tx: Tx, alert: Alert) -> None:
    """As `insert`, for one that is there."""
    changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(_NAMES, start=1))
    await _write(tx, f"update alerts set {changes} where org_id = $1 and id = $2", alert)


async def _write(tx: Tx, statement: str, alert: Alert) -> None:
    try:
        async with tx.transaction():
            await tx.execute(statement, *_values(alert))
    except asyncpg.UniqueViolationError as error:
        details = _TAKEN.get(error.constraint_name or "")
        if details is None:
            raise
        raise InvalidInput("there is such an alert already", details=details) from None


async def lock(
    tx: Tx,
    org_id: UUID,
    code: str,
    *,
    external_subscription_id: str | None = None,
    wallet_id: UUID | None = None,
) -> Alert | None:
    """The alert, held until the transaction ends."""
    row = await tx.fetchrow(
        f"select {_COLUMNS} from alerts where {_OWNED} and code = $4 for update",
        org_id,
        external_subscription_id,
        wallet_id,
        code,
    )
    return from_row(row) if row else None


async def list_page(
    tx: Tx,
    org_id: UUID,
    *,
    external_subscription_id: str | None,
    wallet_id: UUID | None,
    limit: int | None,
    offset: int,
) -> tuple[list[Alert], int]:
    """A page of the alerts of a subscription or wallet, newest first, and how many there are."""
    values = (org_id, external_subscription_id, wallet_id)
    total = await tx.fetchval(f"select count(*) from alerts where {_OWNED}", *values)
    rows = await tx.fetch(
        f"select {_COLUMNS} from alerts where {_OWNED} order by created_at desc, id desc limit $4 offset $5",
        *values,
        limit,
        offset,
    )
    return [from_row(row) for row in rows], total


_OWNED = """org_id = $1 and deleted_at is null
    and ($2::text is not null and external_subscription_id = $2 or $3::uuid is not null and wallet_id = $3)"""


async def lock_of_subscription(tx: Tx, org_id: UUID, external_subscription_id: str) -> list[Alert]:
    """All alerts of a subscription's external id, held until the transaction ends."""
    rows = await tx.fetch(
        f"""select {_COLUMNS} from alerts where org_id = $1 and external_subscription_id = $2
            and deleted_at is null order by created_at, id for update""",
        org_id,
        external_subscription_id,
    )
    return [from_row(row) for row in rows]


async def lock_of_wallets(tx: Tx, org_id: UUID, customer_id: UUID) -> list[Alert]:
    """All alerts of a customer's wallets, held until the transaction ends."""
    rows = await tx.fetch(
        f"""select {_COLUMNS} from alerts where org_id = $1 and customer_id = $2 and wallet_id is not null
            and deleted_at is null order by created_at, id for update""",
        org_id,
        customer_id,
    )
    return [from_row(row) for row in rows]


async def mark_deleted(tx: Tx, org_id: UUID, alert_ids: Sequence[UUID], now: datetime) -> None:
    await tx.execute(
        "update alerts set deleted_at = $3, updated_at = $3 where org_id = $1 and id = any($2)",
        org_id,
        list(alert_ids),
        now,
    )


async def insert_triggered(tx: Tx, triggered: TriggeredAlert) -> None:
    places = ", ".join(f"${n}" for n in range(1, len(_TRIGGERED) + 1))
    values = [getattr(triggered, name) for name in _TRIGGERED]
    values[_TRIGGERED.index("crossed_thresholds")] = list(triggered.crossed_thresholds)
    await tx.execute(f"insert into triggered_alerts ({', '.join(_TRIGGERED)}) values ({places})", *values)
