"""Credit systems, rates, and what plans grant of them."""

from nozle_server.infra.migrate import run_script

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run_script(__file__)
