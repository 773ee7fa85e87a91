"""Monetary wallets and payments."""

from nozle_server.infra.migrate import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script(__file__)
