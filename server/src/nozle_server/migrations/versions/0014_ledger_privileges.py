"""Who may change the ledger: nobody its history."""

from nozle_server.infra.migrate import run_script

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_script(__file__)
