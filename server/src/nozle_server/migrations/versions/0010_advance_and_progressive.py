"""Charges in advance and progressive billing."""

from nozle_server.infra.migrate import run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_script(__file__)
