"""Realtime through an external Centrifugo: who may be listening there, and which process tells them."""

from nozle_server.infra.migrate import run_script

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run_script(__file__)
