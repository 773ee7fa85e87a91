"""News of usage are found and pruned early."""

from nozle_server.infra.migrate import run_script

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_script(__file__)
