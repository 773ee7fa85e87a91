"""The second act from its first day to the report."""

from datetime import UTC, datetime
from decimal import localcontext
from pathlib import Path

from nozle_demo.client import Api, segment
from nozle_demo.clock import OrganizationClock, from_instant, to_instant
from nozle_demo.errors import RefusedError
from nozle_demo.life.expected import work_out
from nozle_demo.life.identities import check_life
from nozle_demo.life.journal import LifeJournal
from nozle_demo.life.months import Months, next_month
from nozle_demo.life.observed import LifeObserved, read_life
from nozle_demo.life.report import LifeReport
from nozle_demo.life.story import DORA, Stage, live

_DIGITS = 80
# Of Dora's invoices the one with usage, a coupon and tax.
_INVOICE_AS_PDF = 1


async def live_through(api: Api, directory: Path) -> LifeReport:
    """Do what is not done yet, look at what came of it, and report; every step may follow an interruption."""
    with localcontext() as context, LifeJournal(directory / "life.jsonl") as journal:
        context.prec = _DIGITS
        try:
            return await _live_through(api, directory, journal)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise RefusedError(
                f"an answer of the server has not the shape of the contract: {error!r}", 200
            ) from error


async def _live_through(api: Api, directory: Path, journal: LifeJournal) -> LifeReport:
    clock = await OrganizationClock.read(api)
    months = _months(journal, clock)
    stage = Stage(api, months, journal)
    await live(stage, clock)
    seen = await read_life(stage)
    pdf = await _save_pdf(api, seen, directory)
    identities = check_life(journal.facts, seen, work_out(months))
    return LifeReport(months, journal.facts, seen, tuple(identities), str(pdf))


def _months(journal: LifeJournal, clock: OrganizationClock) -> Months:
    """The begun life's, or those from the first of the next month on: time only goes forward."""
    if journal.begun is None:
        first = next_month(clock.now or datetime.now(UTC)).first
        journal.begin({"start": to_instant(first)})
        return Months(first)
    return Months(from_instant(str(journal.begun["start"])))


async def _save_pdf(api: Api, seen: LifeObserved, directory: Path) -> Path:
    invoice = seen.invoices[DORA][_INVOICE_AS_PDF]
    name = "".join(one if one.isalnum() or one in "-_" else "-" for one in invoice.number)
    path = directory / f"{name}.pdf"
    path.write_bytes(await api.download(f"/api/v1/invoices/{segment(invoice.id)}/pdf"))
    return path
