"""The catalog in full: recurring and weighted metrics, trials, commitments, thresholds, fixed charges, add-ons."""

from nozle_server.infra.migrate import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script(__file__)
