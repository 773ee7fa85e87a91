"""What is held in advance for replicas that decide by signed snapshots."""

from nozle_server.infra.migrate import run_script

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    run_script(__file__)
