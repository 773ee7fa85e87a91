"""Use cases that only look at wallets, and the one way to lock one."""

from datetime import datetime
from uuid import UUID

from nozle_server.core.errors import NotFound
from nozle_server.core.text import parse_id
from nozle_server.customers import store as customers_store
from nozle_server.infra.database import Tx
from nozle_server.wallets import store, transaction_store
from nozle_server.wallets.model import Direction, Funding, Wallet, WalletStatus, WalletTransaction


async def get_wallet(tx: Tx, org_id: UUID, wallet_id: UUID) -> Wallet:
    """NotFound `wallet_not_found`."""
    wallet = await store.find_wallet(tx, org_id, wallet_id)
    if wallet is None:
        raise unknown_wallet()
    return wallet


async def lock_wallet(tx: Tx, org_id: UUID, wallet_id: UUID) -> Wallet:
    """As `get_wallet`, with the customer's row held until the transaction ends: nobody else moves the money of any of
    this customer's wallets meanwhile."""
    wallet = await get_wallet(tx, org_id, wallet_id)
    await customers_store.lock_by_id(tx, org_id, wallet.customer_id)
    return await get_wallet(tx, org_id, wallet_id)


async def get_wallet_by_code(tx: Tx, org_id: UUID, customer_id: UUID, code: str) -> Wallet:
    """A customer's wallet by its code: the active one, else the latest that had it. NotFound `wallet_not_found`."""
    wallet = await store.find_active_by_code(tx, org_id, customer_id, parse_id(code, "code"))
    if wallet is None:
        raise unknown_wallet()
    return wallet


async def list_live_wallets(tx: Tx, org_id: UUID, customer_id: UUID, now: datetime) -> list[Wallet]:
    """A customer's wallets that can pay at `now`."""
    return [one for one in await store.list_active(tx, org_id, customer_id) if is_live(one, now)]


def is_live(wallet: Wallet, now: datetime) -> bool:
    """Active, and its expiration has not come, whether it was written off already or not."""
    return wallet.status is WalletStatus.ACTIVE and (
        wallet.expiration_at is None or wallet.expiration_at > now
    )


async def get_transaction(tx: Tx, org_id: UUID, transaction_id: UUID) -> WalletTransaction:
    """NotFound `wallet_transaction_not_found`."""
    transaction = await transaction_store.find(tx, org_id, transaction_id)
    if transaction is None:
        raise unknown_transaction()
    return transaction


async def list_fundings(
    tx: Tx, org_id: UUID, transaction_id: UUID, direction: Direction, *, limit: int, offset: int
) -> tuple[list[Funding], int]:
    """What an inbound transaction paid for, or what paid for an outbound one. NotFound for one of the other
    direction."""
    transaction = await get_transaction(tx, org_id, transaction_id)
    if transaction.direction is not direction:
        raise unknown_transaction()
    return await transaction_store.list_fundings(tx, transaction, limit=limit, offset=offset)


def unknown_wallet() -> NotFound:
    return NotFound("wallet not found", code="wallet_not_found")


def unknown_transaction() -> NotFound:
    return NotFound("wallet transaction not found", code="wallet_transaction_not_found")
