"""Usage is told whether or not somebody watches it: channels have no watches any more."""

from nozle_server.infra.migrate import run_script

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_script(__file__)
