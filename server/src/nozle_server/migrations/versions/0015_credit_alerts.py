"""Low-balance alerts and automatic top-up of credits."""

from nozle_server.infra.migrate import run_script

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_script(__file__)
