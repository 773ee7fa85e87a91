"""Holds, receivables, budgets, and what an account is versioned by."""

from nozle_server.infra.migrate import run_script

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_script(__file__)
