"""Margin policies: floors under what a use earns, for a customer, a feature, a plan or the organization, in versions."""

from nozle_server.infra.migrate import run_script

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_script(__file__)
