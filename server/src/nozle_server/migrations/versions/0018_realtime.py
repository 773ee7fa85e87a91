"""Realtime: the channels' positions and histories, what was last told, and the server's signing secret."""

from nozle_server.infra.migrate import run_script

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_script(__file__)
