"""The seams together, as use cases take them: what a larger installation swaps for other engines."""

from dataclasses import dataclass

from nozle_server.infra.change_bus import ChangeBus
from nozle_server.infra.event_log import EventLog
from nozle_server.infra.usage_store import UsageStore


@dataclass(frozen=True, slots=True)
class Seams:
    """Built once in `bootstrap.py`."""

    event_log: EventLog
    usage_store: UsageStore
    change_bus: ChangeBus
