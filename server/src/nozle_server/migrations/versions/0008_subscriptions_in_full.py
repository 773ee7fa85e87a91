"""Subscriptions in full: later and earlier starts, changes of plan, cancellation."""

from nozle_server.infra.migrate import run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_script(__file__)
