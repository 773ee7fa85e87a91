"""Alerts on usage and wallets."""

from nozle_server.infra.migrate import run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_script(__file__)
