"""How often an item that falls due was begun by a worker that did not live to end it."""

from nozle_server.infra.migrate import run_script

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_script(__file__)
