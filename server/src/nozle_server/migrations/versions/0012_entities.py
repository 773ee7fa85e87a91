"""Entities: teams, users, agents and runs of a customer."""

from nozle_server.infra.migrate import run_script

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_script(__file__)
