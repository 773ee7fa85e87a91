"""M11: credits do what a plain model of them says, after every step of any story that can be told through the API.

Stories are drawn by Hypothesis. Each is an organization of its own on real PostgreSQL, served by two applications with
caches of their own; calls are sent to either, alone or at once, with keys and again, while caches are dropped, applications
are replaced, callers hang up and connections are cut. After every step all answers, and all that the API shows of whom they
were about, are what the model says (`credit_model.py`); in the end the books pass the audit.

`make test` plays a few stories, the same ones each time. `make chaos N=1000 T=state_machine` plays N, and prints the SEED
that plays them again.
"""

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from typing import ClassVar
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, get_state_machine_test, initialize, precondition, rule

from credits.credit_model import Model
from credits.credit_values import PlanGrant, Refused
from credits.machine_deeds import SPANS, Deeds, choose
from credits.machine_house import Deed, House, Process, Sent, hang_up
from credits.machine_judge import Judge, Scope, is_replay, scope_of
from credits.machine_view import API, view
from world import World, audit, instant, rfc3339

pytestmark = [pytest.mark.database, pytest.mark.slow]

STORIES, STEPS = 5, 30
START = "2026-01-30T15:00:00Z"
CUSTOMERS = {"ann": "UTC", "bob": "America/New_York"}

KINDS = (
    *(
        "grant",
        "deduct",
        "deduct",
        "track",
        "hold",
        "hold",
        "settle",
        "settle",
        "release",
        "put_entity",
        "put_entity",
    ),
    *("allocate", "deallocate", "set_budget", "set_budget", "remove_budget", "subscribe"),
    *("void", "refund", "refund", "correct", "transfer", "transfer"),
)
HARM = ("none",) * 16 + ("forget", "restart", "cut", "cut", "hang up")


class Credits(RuleBasedStateMachine):
    """One organization and its model."""

    house: ClassVar[House]
    runner: ClassVar[asyncio.Runner]
    steps: ClassVar[int] = 0
    seen: ClassVar[Counter[str]] = Counter()

    world: World
    model: Model

    def __init__(self) -> None:
        super().__init__()
        self.past: list[Deed] = []
        self.first_answers: dict[Scope, bytes] = {}
        self.told: list[str] = []
        self.keys = 0
        self.sound = False

    # The beginning.

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """A plan, and most of the time something to spend for somebody."""
        rollover = st.sampled_from([None, (None,), (Decimal(4),)])
        self.model = model = Model(instant(START))
        model.systems = {"credits": [], "gpu": ["render"]}
        model.rates = {("gpu", "tokens"): (Decimal(1000), Decimal(2))}
        model.plans = {
            "basic": [
                PlanGrant("credits", Decimal(20), "weekly", rollover=data.draw(rollover, "weekly")),
                PlanGrant("gpu", Decimal(7), "monthly", rollover=data.draw(rollover, "monthly"), priority=10),
                PlanGrant("credits", Decimal(3), None),
                PlanGrant(
                    "credits", Decimal(5), "weekly", scope="entity", rollover=data.draw(rollover, "entity")
                ),
            ]
        }
        self.runner.run(self._begin())
        self.sound = True
        for name in CUSTOMERS:
            if data.draw(st.integers(0, 3), "begins with something"):
                self.runner.run(self._furnish(name))

    async def _begin(self) -> None:
        self.world = world = await self.house.new_world()
        await world.turn(START)
        system = {"code": "gpu", "features": ["render"]}
        await world.post("/core/api/v1/credit-systems", {"credit_system": system})
        await world.a_metric()
        rate = {"metric_amount": "1000", "credit_amount": "2"}
        await world.call("PUT", "/core/api/v1/credit-systems/gpu/rates/tokens", rate)
        first, *others = self.model.plans["basic"]
        await world.a_plan(
            code="basic",
            interval="weekly",
            credits=first.amount,
            credits_rollover=_rollover(first),
            credit_grants=[
                {
                    "credit_system": one.system,
                    "amount": one.amount,
                    "cadence": {"weekly": "period", "monthly": "month", None: "lifetime"}[one.interval],
                    "scope": one.scope,
                    "priority": one.priority,
                    "rollover": _rollover(one),
                }
                for one in others
            ],
        )
        for name, zone in CUSTOMERS.items():
            await world.a_customer(name, timezone=zone)
            self.model.create_customer(name, zone)

    async def _furnish(self, customer: str) -> None:
        world, model = self.world, self.model
        await world.an_entity("team", customer)
        model.put_entity(customer, "team", "active", ..., None)
        await world.an_entity("agent", customer, parent_entity_id="team")
        model.put_entity(customer, "agent", "active", "team", None)
        await world.grant(customer, 40, source="top_up")
        model.grant(customer, Decimal(40), "top_up")
        await world.subscribe(customer, "basic")
        model.subscribe(customer, "basic")

    # What happens.

    @rule(data=st.data())
    def deed(self, data: st.DataObject) -> None:
        self.do(data, self.a_deed(data))

    @rule(data=st.data())
    def another_deed(self, data: st.DataObject) -> None:
        """As often again: most of a story are single deeds."""
        self.do(data, self.a_deed(data))

    @rule(data=st.data())
    def at_once(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(2, 3), "how many at once")
        self.do(data, *(self.a_deed(data) for _ in range(count)))

    @rule(data=st.data())
    def twins(self, data: st.DataObject) -> None:
        """The same call twice at the same time; under one key it is one deed."""
        deed = self.a_deed(data)
        self.do(data, deed, deed)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        self.do(data, choose(data, self.past, "again"))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def misuse_key(self, data: st.DataObject) -> None:
        """The key of one deed with another, which is refused where the first was done."""
        old = choose(data, self.past, "key of")
        self.do(data, replace(self.a_deed(data, old.kind), key=old.key))

    @rule(data=st.data(), span=SPANS)
    def turn(self, data: st.DataObject, span: timedelta) -> None:
        to = self.model.now + span
        body = {"now": rfc3339(to.isoformat())}
        self.do(data, Deed("turn", "POST", f"{API}/test-clock", body, lambda model: model.turn(to)))

    def a_deed(self, data: st.DataObject, kind: str | None = None) -> Deed:
        self.keys += 1
        kind = kind or data.draw(st.sampled_from(KINDS), "kind")
        made = getattr(Deeds(self.model, data, f"key-{self.keys}"), kind)()
        assert isinstance(made, Deed)
        return made

    # Doing it.

    def do(self, data: st.DataObject, *deeds: Deed) -> None:
        """Do them at once, each by one of the processes, and see whether it is what the model says."""
        places = [data.draw(st.integers(0, 1), "process") for _ in deeds]
        harm = data.draw(st.sampled_from(HARM), "harm")
        after_ms = data.draw(st.integers(0, 15), "after ms") if harm in ("cut", "hang up") else 0
        type(self).steps += 1
        self.told.append(f"{self.model.now:%d %b %H:%M:%S} {harm} {after_ms} " + "; ".join(map(str, deeds)))
        self.sound = False
        self.runner.run(self._do(deeds, [self.house.processes[place] for place in places], harm, after_ms))
        self.sound = True

    async def _do(
        self, deeds: Sequence[Deed], processes: Sequence[Process], harm: str, after_ms: int
    ) -> None:
        if harm == "forget":
            processes[0].services.forget_all()
        if harm == "restart":
            processes[0].restart()
        calls = [
            asyncio.create_task(process.send(self.world, deed))
            for process, deed in zip(processes, deeds, strict=True)
        ]
        harmed = harm in ("cut", "hang up")
        if harmed:
            await asyncio.sleep(after_ms / 1000)
            await (self.house.cut_connections() if harm == "cut" else hang_up(calls[0]))
        await asyncio.wait(calls)
        sent = [
            Sent(deed, None) if call.cancelled() else call.result()
            for deed, call in zip(deeds, calls, strict=True)
        ]
        if harmed:
            await self.house.settle()
        while harmed and deeds[0].kind == "turn" and not sent[0].known:
            # The clock may stand anywhere on the way; the same turn again goes on from there.
            sent = [await processes[0].send(self.world, deeds[0])]
        for one in sent:
            self._note(one)
            assert harmed or one.known, self.story(["refused for no reason"])
        await self._judge(processes[0], sent)

    async def _judge(self, process: Process, sent: Sequence[Sent]) -> None:
        names = sorted({name for one in sent for name in one.deed.customers} or self.model.customers)
        paths = sorted({path for name in names for path in self._places(name, sent)})
        shown = await asyncio.gather(*(process.get(self.world, path) for path in paths))
        judge = Judge(dict(zip(paths, shown, strict=True)), self.first_answers, names)
        model = judge.explain(self.model, sent)
        assert model is not None, self.story(judge.wrong)
        self.model = model
        for one in sent:
            if one.deed.key is not None:
                if one.answer is not None and one.answer.status == 200:
                    self.first_answers.setdefault(scope_of(one.deed), one.answer.body)
                if one.deed not in self.past:
                    self.past.append(one.deed)

    def _places(self, customer: str, sent: Sequence[Sent]) -> Iterator[str]:
        """What is shown of a customer, whichever of the calls were done."""
        models = [self.model]
        for order in permutations(one.deed for one in sent):
            models.append(self.model.copy())
            for deed in order:
                with suppress(Refused):
                    deed.does(models[-1])
                models.append(models[-1].copy())
        for model in models:
            yield from view(model, model.customers[customer])

    def _note(self, sent: Sent) -> None:
        self.told.append(f"    {sent.answer.status} {sent.answer.body!r}" if sent.answer else "    no answer")
        self.seen[f"{sent.deed.kind} {_in_a_word(sent)}"] += 1

    def story(self, wrong: Sequence[str]) -> str:
        return "\n".join(["", *wrong, "after:", *self.told])

    # The end.

    def teardown(self) -> None:
        if self.sound:
            self.runner.run(self._end())

    async def _end(self) -> None:
        """Every movement of the default system is as the model has it, and the books are right."""
        for customer in self.model.customers.values():
            found = await self._movements(customer.name)
            account = customer.accounts.get("credits")
            told = [] if account is None else [(kind, abs(amount)) for kind, amount in account.moves]
            assert sorted(found) == sorted(told), self.story(
                [f"{customer.name}: {found}\n  where the model has {told}"]
            )
        await audit(self.world)

    async def _movements(self, customer: str) -> list[tuple[str, Decimal]]:
        found, cursor = [], None
        while True:
            path = f"{API}/credits/{quote(customer)}/transactions"
            page = await self.world.get(path, limit=100, cursor=cursor)
            found += [(row["type"], Decimal(row["amount"])) for row in page["transactions"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found


def _rollover(grant: PlanGrant) -> object:
    return None if grant.rollover is None else {"limit": grant.rollover[0]}


def _in_a_word(sent: Sent) -> str:
    if sent.answer is None or not sent.known:
        return "unknown"
    if sent.answer.status != 200:
        return str(sent.answer.code)
    return "again" if is_replay(sent.answer) else str(sent.answer.json.get("reason") or "done")


@pytest.fixture
def machine(fresh_database_url: str) -> Iterator[type[Credits]]:
    """On a database of its own: it cuts whatever connections there are."""
    with asyncio.Runner() as runner:
        Credits.runner, Credits.house = runner, runner.run(House.open(fresh_database_url))
        Credits.steps = 0
        Credits.seen.clear()
        try:
            yield Credits
        finally:
            runner.run(Credits.house.close())


def test_m11_credits_are_what_a_plain_model_of_them_says(machine: type[Credits]) -> None:
    n, told = os.environ.get("N"), os.environ.get("SEED")
    number = int(told or secrets.token_hex(4), 16) if n or told else None
    stories = int(n or STORIES)
    if number is not None:
        print(f"\nSEED={number:x}", flush=True)
    play = get_state_machine_test(
        machine,
        settings=settings(
            max_examples=stories,
            stateful_step_count=int(os.environ.get("NOZLE_MACHINE_STEPS") or STEPS),
            derandomize=number is None,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink)
            if os.environ.get("NOZLE_MACHINE_SHRINK")
            else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    (play if number is None else seed(number)(play))()
    seen = ", ".join(f"{name} {count}" for name, count in sorted(machine.seen.items()))
    print(f"{stories} stories, {machine.steps} steps: {seen}")
