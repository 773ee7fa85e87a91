"""What a wallet shows: its balance, and the ongoing balance, which is that less the usage that no invoice took yet."""

from dataclasses import dataclass
from decimal import Decimal, localcontext

from nozle_server.core.rounding import EXACT, divide
from nozle_server.wallets.conversion import from_cents, shown_credits, spendable_cents
from nozle_server.wallets.model import Wallet


@dataclass(frozen=True, slots=True)
class Figures:
    """A wallet's balances at one instant, in whole minor units and in credits to 5 decimals. The ongoing ones are
    negative when usage has outgrown the wallet."""

    balance_cents: int
    credits_balance: Decimal
    ongoing_balance_cents: int
    credits_ongoing_balance: Decimal
    ongoing_usage_balance_cents: int
    credits_ongoing_usage_balance: Decimal


def figures(wallet: Wallet, usage_cents: int) -> Figures:
    """`usage_cents` is what the wallet will have to pay of usage that is not invoiced yet, tax included."""
    balance_cents = spendable_cents(wallet.balance, wallet.currency)
    usage = from_cents(usage_cents, wallet.currency)
    with localcontext(EXACT):
        ongoing = wallet.balance - usage
    return Figures(
        balance_cents=balance_cents,
        credits_balance=shown_credits(wallet.balance, wallet.rate_amount),
        ongoing_balance_cents=balance_cents - usage_cents,
        credits_ongoing_balance=shown_credits(ongoing, wallet.rate_amount),
        ongoing_usage_balance_cents=usage_cents,
        credits_ongoing_usage_balance=shown_credits(usage, wallet.rate_amount),
    )


def ongoing_credits(wallet: Wallet, usage_cents: int) -> Decimal:
    """The ongoing balance in credits, exact to 24 decimals: what rules decide by."""
    with localcontext(EXACT):
        ongoing = wallet.balance - from_cents(usage_cents, wallet.currency)
    return divide(ongoing, wallet.rate_amount)
