"""The credit systems of an organization, as whoever decides over accounts keeps them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.core import json
from nozle_server.core.errors import NotFound
from nozle_server.infra.database import Tx


@dataclass(frozen=True, slots=True)
class Systems:
    """An organization's credit systems, by code, which feature labels belong to which; and its test clock, None on real
    time. `version` rises when the systems change."""

    codes: frozenset[str]
    by_feature: Mapping[str, str]
    version: int
    test_now: datetime | None

    def choose(self, code: str | None, feature: str | None) -> str:
        """The system named, else that of the feature, else the default one. NotFound `credit_system_not_found`."""
        if code is None:
            return self.by_feature.get(feature or "", DEFAULT_CREDIT_SYSTEM)
        if code not in self.codes:
            raise NotFound("credit system not found", code="credit_system_not_found")
        return code


async def get_systems(tx: Tx, org_id: UUID) -> Systems:
    """The credit systems and the clock of an organization."""
    row = await tx.fetchrow(
        """
        select o.test_now, o.credits_version, (select array_agg(code) from credit_systems where org_id = o.id) as codes,
            (select json_object_agg(f, s.code) from credit_systems s, unnest(s.features) f
                where s.org_id = o.id and s.status = 'active') as by_feature
        from organizations o where o.id = $1
        """,
        org_id,
    )
    assert row is not None, "a key's organization exists"
    return Systems(
        frozenset(row["codes"] or ()),
        json.loads(row["by_feature"]) if row["by_feature"] else {},
        row["credits_version"],
        row["test_now"],
    )
