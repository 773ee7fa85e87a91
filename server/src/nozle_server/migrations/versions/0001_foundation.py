"""The foundation: identity, customers, catalog, metering, credits, invoices, costs, due items, outbox."""

from nozle_server.infra.migrate import run_script

revision = "0001"
down_revision = None


def upgrade() -> None:
    run_script(__file__)
