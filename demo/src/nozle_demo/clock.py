"""The organization's test clock: read once, then only moved forward."""

from datetime import UTC, datetime

from nozle_demo.client import Api

_PATH = "/api/v1/test-clock"


class OrganizationClock:
    """`now` is None while the organization's time was never set."""

    def __init__(self, api: Api, now: datetime | None) -> None:
        self._api = api
        self.now = now

    @classmethod
    async def read(cls, api: Api) -> "OrganizationClock":
        now = (await api.get(_PATH))["now"]
        return cls(api, None if now is None else from_instant(now))

    async def move_to(self, instant: datetime) -> None:
        """Move to `instant`; nothing is sent when the clock is there or beyond already."""
        if self.now is not None and instant <= self.now:
            return
        await self._api.post(_PATH, {"now": to_instant(instant)})
        self.now = instant


def to_instant(instant: datetime) -> str:
    """RFC 3339 in UTC, ending in Z."""
    return instant.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def from_instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
