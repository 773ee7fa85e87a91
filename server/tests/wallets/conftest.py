from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.wallets.model import Wallet, WalletStatus
from world import client, live_world, other_world, services, world

__all__ = ["NOW", "a_wallet", "client", "live_world", "other_world", "services", "world"]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_wallet(
    n: int = 1,
    *,
    balance: str = "10",
    priority: int = 50,
    fee_types: Sequence[str] = (),
    metrics: Sequence[UUID] = (),
    paid_top_up_min_amount_cents: int | None = None,
) -> Wallet:
    """The nth wallet, made on the nth day, in dollars at a dollar a credit."""
    return Wallet(
        org_id=UUID(int=0),
        id=UUID(int=n),
        customer_id=UUID(int=0),
        external_customer_id="acme",
        account_id=UUID(int=n),
        code=f"w{n}",
        name=None,
        priority=priority,
        rate_amount=Decimal(1),
        currency="USD",
        status=WalletStatus.ACTIVE,
        balance=Decimal(balance),
        consumed_amount=Decimal(0),
        invoice_requires_successful_payment=False,
        paid_top_up_min_amount_cents=paid_top_up_min_amount_cents,
        paid_top_up_max_amount_cents=None,
        fee_types=tuple(fee_types),
        metric_ids=tuple(metrics),
        metric_codes=(),
        metadata=None,
        expiration_at=None,
        last_synced_at=None,
        last_consumed_credit_at=None,
        terminated_at=None,
        created_at=NOW + timedelta(days=n),
        updated_at=NOW,
        rule=None,
    )
