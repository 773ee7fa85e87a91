"""`can()` over HTTP, beside servers that answer the same bytes without thinking; and the decision itself."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from harness import client, cores, deciding, tools
from harness.bench import CONNECTIONS, Bench, main
from harness.constant import bare_asgi, constant_lane, nginx_file, nginx_return
from harness.cores import LOAD_CORE, SERVER_CORE, Busy
from harness.interrupted import interrupted
from harness.invalidating import changing
from harness.load import Load
from harness.measurement import Measurement
from harness.report import Figure, Reading, Yardstick
from harness.scheduler import recording
from harness.server import Organization, memory_mib
from harness.traffic import Traffic, get
from harness.turns import by_turns
from harness.world import CUSTOMERS, customer_names, enrol, enrol_like_first, send_events

PLAN = "free"  # the one with a limit
MANY = 100_000
CHANGES_PER_SECOND = 100
CONSTANT, FILE = "same server, constant", "nginx file in memory"
DECISION_US = 5.0
RATIO_TO_FILE = 0.9
P99_MS = {1: 0.5, 64: 2.0}
TURNS, FEW_TURNS = 15, 3


async def measure(bench: Bench) -> None:
    """Ask about 1, 1,000 and 100,000 customers in random order, each with some usage, all of them asked for before; then
    about 1,000 while others change. The server has a core of its own, and so has the load."""
    server = bench.server
    organization = await server.open_organization("bench")
    names = customer_names()
    await enrol(server, organization, names, plan=PLAN)
    await send_events(server, organization, names)
    [answer] = await client.send_all_good(server.port, _questions(organization, names[:1]))
    async with AsyncExitStack() as stack:
        with cores.on_core(SERVER_CORE):
            yardsticks = await _yardsticks(stack, answer.body)
        stack.enter_context(cores.pinned(server.pid, SERVER_CORE))
        stack.enter_context(cores.on_core(LOAD_CORE))
        if cores.CAN_PIN:
            bench.report.say(f"\npinned:     servers to core {SERVER_CORE}, load to core {LOAD_CORE}")
        runs = Runs(bench, organization, yardsticks)
        few = {name: port for name, port in yardsticks.items() if name in (CONSTANT, FILE)}
        await runs.cached("can_1", names[:1], few)
        await runs.in_turns("can_1", names[:1], bench.connections[-1:])
        await runs.cached("can", names, yardsticks)
        await runs.in_turns("can", names, bench.connections)
        await runs.while_others_change(names)
        if bench.connections == CONNECTIONS:
            many = customer_names(MANY)
            await enrol_like_first(bench.database, organization, many, already=CUSTOMERS)
            await runs.cached("can_100000", many, few)
            await runs.in_turns("can_100000", many, bench.connections[-1:])
    await _decide(bench, organization, names[0])


async def _yardsticks(stack: AsyncExitStack, body: bytes) -> dict[str, int | None]:
    """Ports by name; None: it is not installed."""
    ports: dict[str, int | None] = {
        CONSTANT: await stack.enter_async_context(constant_lane(body)),
        "bare ASGI server": await stack.enter_async_context(bare_asgi(body)),
    }
    nginx = tools.find("nginx")
    for name, serving in (("nginx return", nginx_return), (FILE, nginx_file)):
        ports[name] = await stack.enter_async_context(serving(nginx, body)) if nginx else None
    return ports


@dataclass(frozen=True, slots=True)
class _Cost:
    """What the cores had to do for the answers. Where the load's core is the busier one, requests a second say as much of it
    as of the server: what the server needs for an answer then says more."""

    name: str
    share: float | None
    share_of_load: float | None
    measured: Measurement

    def say(self) -> str:
        share, of_load = self.share or 0.0, self.share_of_load or 0.0
        return f"{self.name} {share:.0%} and {of_load:.0%}, {1e6 * share / self.measured.per_second:.1f} µs an answer"


class Runs:
    """What is measured with one server."""

    def __init__(self, bench: Bench, organization: Organization, yardsticks: dict[str, int | None]) -> None:
        self._bench, self._organization, self._yardsticks = bench, organization, yardsticks
        self._load = Load(bench.server.port)

    async def cached(self, name: str, customers: Sequence[str], yardsticks: dict[str, int | None]) -> None:
        """Every customer has been asked for once before."""
        bench, report = self._bench, self._bench.report
        report.begin(f"can() over HTTP: {len(customers):,} customers, all cached, requests/s")
        traffic, before = Traffic(_questions(self._organization, customers)), memory_mib(bench.server.pid)
        await client.send_all_good(bench.server.port, traffic.requests)
        grown = memory_mib(bench.server.pid) - before
        if constant := yardsticks.get(CONSTANT):  # it remembers what it answered, as the server does
            await client.send_all_good(constant, traffic.requests)
        for connections in bench.connections:
            busy, load = Busy(SERVER_CORE), Busy(LOAD_CORE)
            measured = await self._measure(self._load, traffic, connections)
            costs = [_Cost("can()", busy.share(), load.share(), measured)]
            for yardstick, port in yardsticks.items():
                beside = Yardstick(yardstick, skipped="nginx is not installed")
                if port is not None:
                    busy, load = Busy(SERVER_CORE), Busy(LOAD_CORE)
                    found = await self._measure(Load(port), traffic, connections)
                    beside = Yardstick(yardstick, found)
                    costs.append(_Cost(yardstick, busy.share(), load.share(), found))
                figure = Figure(f"{name}_c{connections}", "requests/s", connections, measured, beside)
                report.add(figure)
                if yardstick == FILE:
                    self._say_goals(figure)
            said = [one.say() for one in costs if one.share is not None and one.measured.n]
            if cores.CAN_PIN and said:
                report.say(f"            busy, the servers' core and the load's: {'; '.join(said)}")
        if len(customers) == MANY:
            report.say(f"memory: asking for them took {grown:,.0f} MiB, {1024 * grown / MANY:.2f} KiB each")

    async def in_turns(self, name: str, customers: Sequence[str], connections: Sequence[int]) -> None:
        """can() and the file by turns; then, where the kernel tells, what kept the server from answering."""
        bench, report = self._bench, self._bench.report
        turns = TURNS if bench.connections == CONNECTIONS else FEW_TURNS
        report.say(
            f"\ncan() over HTTP: {len(customers):,} customers, all cached, {turns} turns of 1 s each; medians"
        )
        if cores.CAN_PIN:
            said = " and ".join(interrupted(core).say() for core in (SERVER_CORE, LOAD_CORE))
            report.say(f"the machine keeps a loop that only looks at the clock waiting: on {said}")
        traffic, port = Traffic(_questions(self._organization, customers)), self._yardsticks.get(FILE)
        for count in connections:
            loads = [self._load] if port is None else [self._load, Load(port)]
            product, *yardsticks = await by_turns(loads, traffic, connections=count, turns=turns)
            wanted, goals = P99_MS.get(count), []
            report.say(f"c{count} can(): {product.say(wanted)}")
            for file in yardsticks:
                report.say(f"c{count} {FILE}: {file.say(wanted)}")
                rate = Reading(
                    f"{name}_turns_c{count}",
                    product.per_second,
                    "requests/s",
                    FILE,
                    file.per_second,
                    product.n,
                )
                report.add(rate)
                report.add(
                    Reading(f"{name}_p99_c{count}", product.p99_ms, "ms", FILE, file.p99_ms, product.n)
                )
                if product.sent_p99_ms is not None and file.sent_p99_ms is not None:
                    sent = product.sent_p99_ms, "ms", FILE, file.sent_p99_ms, product.n
                    report.add(Reading(f"{name}_sent_p99_c{count}", *sent))
                goals.append(_said(f"ratio to {FILE} {rate.ratio:.3f}", rate.ratio >= RATIO_TO_FILE))
            if wanted is not None:
                for which, p99_ms in (("p99", product.p99_ms), ("p99 of those sent", product.sent_p99_ms)):
                    if p99_ms is not None:
                        goals.append(
                            _said(f"median {which} {p99_ms:.2f} ms under {wanted} ms", p99_ms < wanted)
                        )
            if goals:
                report.say(f"            goals: {'; '.join(goals)}")
            await self._say_what_stalls(traffic, count)

    async def _say_what_stalls(self, traffic: Traffic, connections: int) -> None:
        with recording(self._bench.server.pid, SERVER_CORE) as record:
            traced = await self._load.turn(traffic, connections=connections)
        if record is not None and cores.CAN_PIN:
            stood = record.stalls.say(traced.seconds)
            self._bench.report.say(
                f"            one more, traced: p99 {traced.p99_ms:.2f} ms; the server stood still {stood}"
            )

    async def while_others_change(self, customers: Sequence[str]) -> None:
        """The yardstick is the same without changes, measured right before."""
        bench = self._bench
        bench.report.begin(
            f"can() over HTTP: {len(customers):,} customers, {CHANGES_PER_SECOND} invalidated a second, requests/s"
        )
        traffic = Traffic(_questions(self._organization, customers))
        for connections in bench.connections:
            undisturbed = await self._measure(self._load, traffic, connections)
            async with changing(
                bench.server.database_url,
                *(self._organization.id, customers),
                per_second=CHANGES_PER_SECOND,
            ) as changes:
                measured = await self._measure(self._load, traffic, connections)
                made = changes.per_second
            yardstick = Yardstick("without changes", undisturbed)
            name = f"can_changing_c{connections}"
            bench.report.add(Figure(name, "requests/s", connections, measured, yardstick))
            bench.report.say(f"            {made:.0f} changes a second were made")

    async def _measure(self, load: Load, traffic: Traffic, connections: int) -> Measurement:
        return await load.measure(traffic, connections=connections, seconds=self._bench.seconds)

    def _say_goals(self, figure: Figure) -> None:
        p99_ms, wanted_ms = figure.measurement.p99_ms, P99_MS.get(figure.connections)
        said = []
        if figure.ratio is not None:
            said.append(_said(f"ratio to {FILE} {figure.ratio:.3f}", figure.ratio >= RATIO_TO_FILE))
        if p99_ms is not None and wanted_ms is not None:
            said.append(_said(f"p99 {p99_ms:.2f} ms under {wanted_ms} ms", p99_ms < wanted_ms))
        if said:
            self._bench.report.say(f"            goals: {'; '.join(said)}")


def _said(what: str, is_met: bool) -> str:
    return f"{what}: {'met' if is_met else 'MISSED'}"


async def _decide(bench: Bench, organization: Organization, customer: str) -> None:
    bench.report.say("\ncan() in process, by a snapshot that is there")
    rule, question = await deciding.measure(bench.server.database_url, organization.id, customer, "chat")
    n = deciding.ROUNDS * deciding.TIMES
    for name, value in (("can_decision", rule), ("can_question_to_decision", question)):
        bench.report.add(Reading(name, value, "µs", "goal", DECISION_US, n))


def _questions(organization: Organization, names: Sequence[str]) -> list[str]:
    return [get(f"/api/v1/can?customer_id={name}&feature=chat", organization.key) for name in names]


if __name__ == "__main__":
    main(measure, description=__doc__)
