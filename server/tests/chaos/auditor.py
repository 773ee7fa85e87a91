"""The last word of every test here: when the faults have stopped, nothing in the books is wrong (reliability.md, X00)."""

from chaos.harness import Installation
from world import _FAULTS


async def audit(installation: Installation) -> None:
    """Over every merchant of the installation, in one snapshot."""
    faults: dict[str, list[tuple[object, ...]]] = {}
    async with (
        installation.session() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        for merchant in installation.merchants:
            for fault, sql in _FAULTS.items():
                if rows := await connection.fetch(sql, merchant.org_id):
                    faults[f"{merchant.org_id}: {fault}"] = [tuple(row) for row in rows[:3]]
    assert not faults, faults
