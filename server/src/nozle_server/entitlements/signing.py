"""The deployment's keys for snapshots: made when first needed, published, changed for new ones."""

from datetime import datetime

from nozle_server.entitlements import signing_key_store as store
from nozle_server.entitlements.signed_snapshot import LONGEST_USE
from nozle_server.entitlements.signing_keys import SigningKey, signing_key, still_trusted
from nozle_server.infra.database import Tx


async def published_keys(tx: Tx, real_now: datetime) -> list[SigningKey]:
    """The keys by which snapshots may be signed that are of use at `real_now`, oldest first; never none."""
    keys = await store.read_keys(tx)
    if not keys:
        await store.add_key(tx, 1, real_now)
        keys = await store.read_keys(tx)
    return still_trusted(keys, real_now, LONGEST_USE)


async def current_key(tx: Tx, real_now: datetime) -> SigningKey:
    """The key to sign with."""
    return signing_key(await published_keys(tx, real_now), real_now)


async def rotate(tx: Tx, real_now: datetime, *, at_once: bool = False) -> list[SigningKey]:
    """Make a new key, and delete those that nothing depends on any more; the keys that are published then.

    `at_once`, for when a key has become known to others: the new key signs from now on, the others are gone, and what they
    signed is trusted by nobody who looks at the published keys.
    """
    keys = await published_keys(tx, real_now)
    await store.add_key(tx, keys[-1].number + 1, real_now)
    stored = await store.read_keys(tx)
    kept = stored[-1:] if at_once else still_trusted(stored, real_now, LONGEST_USE)
    await store.delete_keys(tx, [one.number for one in stored if one not in kept])
    return kept
