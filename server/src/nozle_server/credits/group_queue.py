"""What waits of one organization to be decided."""

from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from nozle_server.core.errors import Unavailable
from nozle_server.credits.group_batch import Batch
from nozle_server.credits.group_request import AccountKey, Request
from nozle_server.credits.system_store import Systems


@dataclass(slots=True)
class Queue:
    """What waits of one organization, what is decided already while the batch before it is being written, and the credit
    systems it was last seen to have."""

    org_id: UUID
    waiting: deque[Request] = field(default_factory=deque)
    lanes: dict[AccountKey, deque[Request]] = field(default_factory=dict)
    systems: Systems | None = None
    version: int | None = None
    working: bool = False
    ahead: Batch | None = None

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.lanes or self.working)


def refuse(waiting: deque[Request], refusal: Exception) -> None:
    """Tell all that wait, who then wait no longer: what was refused is not decided afterwards."""
    while waiting:
        waiting.popleft().resolve(refusal)


def give_up(waiting: deque[Request]) -> None:
    """For what should be impossible: nobody waits for ever."""
    refuse(waiting, Unavailable("this could not be decided, try again"))
