"""Operations of product credits: what usage/track consumed or was denied."""

from nozle_server.infra.migrate import run_script

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run_script(__file__)
