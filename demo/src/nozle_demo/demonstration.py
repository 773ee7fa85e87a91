"""The demonstration from the empty stage to the report."""

from decimal import localcontext

from nozle_demo.client import Api
from nozle_demo.clock import OrganizationClock
from nozle_demo.closing import Closing, read_closing
from nozle_demo.errors import RefusedError, UsageError
from nozle_demo.evidence import Evidence
from nozle_demo.exact import Json
from nozle_demo.identities import check
from nozle_demo.journal import Journal
from nozle_demo.observed import read_observed
from nozle_demo.progress import Progress
from nozle_demo.published import read_published
from nozle_demo.replay import Replay
from nozle_demo.report import Report
from nozle_demo.stage import set_stage
from nozle_demo.state import StateDirectory
from nozle_demo.trace import Trace

# Sums of amounts that the server keeps to 24 places are exact with this many digits.
_DIGITS = 80


async def demonstrate(api: Api, trace: Trace, state: StateDirectory, progress: Progress) -> Report:
    """Play what is not played yet, end the period, and report; every step may follow an interruption."""
    with localcontext() as context, Journal(state.path, trace) as journal:
        context.prec = _DIGITS
        try:
            return await _demonstrate(api, trace, state, journal, progress)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RefusedError(
                f"an answer of the server has not the shape of the contract: {error!r}", 200
            ) from error


async def _demonstrate(
    api: Api, trace: Trace, state: StateDirectory, journal: Journal, progress: Progress
) -> Report:
    published = await read_published(api)
    played = state.closing() or await _play(api, trace, state, journal, progress)
    missing = len(trace.requests) - len(journal.outcomes)
    if missing:
        raise UsageError(
            f"the journal {journal.path} of a played trace lacks {missing} rows: was it changed?"
        )
    closing = Closing.from_json(played["customers"])
    clock = await OrganizationClock.read(api)
    await clock.move_to(closing.bills_at)
    observed = await read_observed(api, closing)
    evidence = Evidence(trace, published, journal.outcomes, closing, observed)
    return Report(evidence, tuple(check(evidence)), played["speed"])


async def _play(api: Api, trace: Trace, state: StateDirectory, journal: Journal, progress: Progress) -> Json:
    """Replay up to the end of the trace; what is recorded about it before the period may end."""
    clock = await OrganizationClock.read(api)
    sent_until = clock.now
    state.record_begun(trace)
    periods = await set_stage(api, clock, trace)
    speed = await Replay(api, clock, trace, journal).play(sent_until, progress)
    closing = await read_closing(api, periods)
    # The journal first: from here on no row is asked for again.
    journal.sync()
    played = {"customers": closing.to_json(), "speed": speed.to_json()}
    state.record_closing(played)
    return played
