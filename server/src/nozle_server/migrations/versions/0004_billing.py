"""Billing in full: amounts after coupons, taxes and credits, lines of every kind, several subscriptions an invoice."""

from nozle_server.infra.migrate import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(__file__)
