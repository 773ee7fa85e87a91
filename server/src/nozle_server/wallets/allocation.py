"""Which wallet pays how much of an invoice, and which carries how much of usage that is not invoiced yet.

As Lago: wallets by priority, then the oldest; each pays for the largest group of lines first, and only for what its
limits allow (https://getlago.com/docs/guide/wallet-and-prepaid-credits/overview, "Application scope").
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from nozle_server.wallets.conversion import spendable_cents
from nozle_server.wallets.model import Wallet, WalletLine


def application_order(wallet: Wallet) -> tuple[int, datetime, UUID]:
    """Sort key: the wallet that pays first comes first."""
    return wallet.priority, wallet.created_at, wallet.id


def plan_uses(
    wallets: Iterable[Wallet], lines: Iterable[WalletLine], amount_cents: int
) -> tuple[tuple[Wallet, int], ...]:
    """What each wallet pays, in minor units: together at most `amount_cents`, each at most its whole minor units, and
    for no line more than that line asks."""
    owed = _groups(lines, amount_cents)
    uses: list[tuple[Wallet, int]] = []
    for wallet in sorted(wallets, key=application_order):
        left, paid = spendable_cents(wallet.balance, wallet.currency), 0
        for place, line in enumerate(owed):
            if not wallet.pays_for(line):
                continue
            taken = min(left, line.amount_cents, amount_cents)
            if taken > 0:
                owed[place] = WalletLine(line.kind, line.metric_id, line.amount_cents - taken)
                left, paid, amount_cents = left - taken, paid + taken, amount_cents - taken
        if paid:
            uses.append((wallet, paid))
    return tuple(uses)


def plan_usage(wallets: Sequence[Wallet], lines: Iterable[WalletLine]) -> dict[UUID, int]:
    """The usage that each wallet will have to pay for, in minor units. Unlike an invoice's, it has no bound: what no
    wallet covers is carried by the last one that may pay for it, so that its ongoing balance shows what is missing."""
    ordered = sorted(wallets, key=application_order)
    carried = dict.fromkeys((wallet.id for wallet in ordered), 0)
    for line in _groups(lines, 0):
        rest, last = line.amount_cents, None
        for wallet in ordered:
            if not wallet.pays_for(line):
                continue
            last = wallet.id
            left = max(0, spendable_cents(wallet.balance, wallet.currency) - carried[wallet.id])
            taken = min(rest, left)
            carried[wallet.id] += taken
            rest -= taken
        if last is not None:
            carried[last] += rest
    return carried


def _groups(lines: Iterable[WalletLine], amount_cents: int) -> list[WalletLine]:
    """The lines by kind and metric, the largest first. Taxes are rounded on the invoice as well as on its lines: what
    the lines miss by, up to one minor unit a group, goes to the largest."""
    sums: dict[tuple[str, UUID | None], int] = {}
    for line in lines:
        key = (line.kind, line.metric_id)
        sums[key] = sums.get(key, 0) + line.amount_cents
    groups = [WalletLine(kind, metric_id, cents) for (kind, metric_id), cents in sums.items() if cents > 0]
    groups.sort(key=lambda line: -line.amount_cents)
    missing = amount_cents - sum(line.amount_cents for line in groups)
    if groups and 0 < missing <= len(groups):
        first = groups[0]
        groups[0] = WalletLine(first.kind, first.metric_id, first.amount_cents + missing)
    return groups
