"""The job queue: pgqueuer's own tables, without its trigger."""

from nozle_server.infra.migrate import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(__file__)
