"""Links that open one file of an organization without an API key, for a while.

A link is signed with the stored hash of one of the organization's secret keys, so there is no further secret to keep: who
can make such a link could have read the file with the key itself, and revoking the key ends its links. Like sessions, links
guard access, so they live on real time, whatever the organization's test clock says.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from nozle_server.core.errors import NotAllowed
from nozle_server.identity import link_store
from nozle_server.infra.database import Tx

# Long enough for a link in a mail that is read the day after; short enough for one that leaks.
LIFETIME = timedelta(days=2)

_PURPOSE = b"nozle: link to a file\n"


@dataclass(frozen=True, slots=True)
class LinkSigner:
    """Signs links of one organization. Fetched once for a list of files."""

    org_id: UUID
    key_id: UUID
    key_hash: bytes

    def query(self, path: str, real_now: datetime) -> str:
        """The query string that opens `path` until `LIFETIME` from now."""
        expires = int((real_now + LIFETIME).timestamp())
        return f"expires={expires}&key={self.key_id.hex}&signature={self._sign(path, expires)}"

    def _sign(self, path: str, expires: int) -> str:
        message = _PURPOSE + f"{self.org_id.hex}\n{path}\n{expires}".encode()
        return hmac.new(self.key_hash, message, hashlib.sha256).hexdigest()

    def accepts(self, path: str, expires: int, signature: str) -> bool:
        return hmac.compare_digest(self._sign(path, expires).encode(), signature.encode())


async def find_signer(tx: Tx, org_id: UUID) -> LinkSigner | None:
    """Of the organization's newest secret key, the one that is revoked last. None when all its secret keys are revoked."""
    found = await link_store.find_newest_secret_key(tx, org_id)
    return LinkSigner(org_id, *found) if found else None


async def check_link(
    tx: Tx, *, org_id: UUID, key_id: UUID, path: str, expires: int, signature: str, real_now: datetime
) -> None:
    """NotAllowed `link_invalid` unless the organization signed this path; `link_expired` when its time is over."""
    key_hash = await link_store.find_secret_key(tx, org_id, key_id)
    if key_hash is None or not LinkSigner(org_id, key_id, key_hash).accepts(path, expires, signature):
        raise NotAllowed("this link was not made here, or was withdrawn", code="link_invalid")
    if expires <= real_now.timestamp():
        raise NotAllowed("this link has expired, ask for a new one", code="link_expired")
