"""The last word of every test here: when the faults have stopped, nothing in the books is wrong (reliability.md, X00)."""

from datetime import UTC, datetime

from chaos.harness import Installation
from nozle_server.audit import queries


async def audit(installation: Installation) -> None:
    """Over every merchant of the installation, in one snapshot."""
    async with (
        installation.session() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        report = await queries.audit(connection, real_now=datetime.now(UTC))
    faults = {one.check.name: one.findings[:3] for one in report.checked if one.findings_count}
    assert not faults, faults
