"""Which things are watched, in words that both sides of a watch know."""

USAGE = "check_usage_alerts"
"""A subscription's usage; the key is its external id."""

WALLETS = "check_wallet_alerts"
"""A customer's wallets, and the usage they will have to pay; the key is our id of the customer."""

PROGRESS = "check_progress"
"""A subscription's usage, which progressive billing invoices at its plan's thresholds; the key is our id of it."""
