"""What happens in the life, step by step in the order of its dates, each through the public API.

A step is done whole before the next one begins, and its calls may all be repeated: upserts by a code or an external id,
events by their ids, everything else under an Idempotency-Key made from the step. So after a kill the step that has no line in
the journal is done again, at the date that the clock shows already.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nozle_demo import exact
from nozle_demo.client import Api, segment
from nozle_demo.clock import OrganizationClock, to_instant
from nozle_demo.errors import UsageError
from nozle_demo.exact import Json
from nozle_demo.life import catalog
from nozle_demo.life.catalog import CALLS, CURRENCY, FEATURE, PAGES, PRO, STARTER, TEAM, LifePlan
from nozle_demo.life.journal import LifeJournal
from nozle_demo.life.months import Months

ADA, BERT, CLEO, DORA, EMIL, FINN = "ada", "bert", "cleo", "dora", "emil", "finn"
PEOPLE = {
    ADA: "Ada's Atelier",
    BERT: "Bert & Sons",
    CLEO: "Cleo Consulting",
    DORA: "Dora Design",
    EMIL: "Emil's Emporium",
    FINN: "Finn Freight",
}
# What is used, by customer: calls in the first month (of ada before and after her upgrade) and later.
ADA_ON_STARTER, ADA_ON_PRO, ADA_NEXT_MONTH = 40, 60, 120
BERT_CALLS, CLEO_CALLS, DORA_CALLS, DORA_PAGES = 10, 200, 130, 2_750
EMIL_PAGES, EMIL_NEXT_PAGES = 300, 2_750
FINN_CALLS, FINN_LATE_CALLS = 96, 7
TOP_UP_CENTS, GIFT_CENTS = 8_000, 10_000
UPGRADE_DAY, CANCEL_DAY = 16, 20
_AFTER_MIDNIGHT_H = 1


class Stage:
    """The API as the steps use it: whose customers, and under which keys."""

    def __init__(self, api: Api, months: Months, journal: LifeJournal) -> None:
        self.api, self.months, self.journal = api, months, journal
        self._step, self._calls = "", 0

    def enter(self, step: str) -> None:
        self._step, self._calls = step, 0

    def id(self, name: str) -> str:
        """The external id of a customer of this life."""
        return f"{name}-{self.months.tag}"

    def key(self) -> str:
        """The key of the next call of this step; the same one when the step is repeated."""
        self._calls += 1
        return f"life-{self.months.tag}-{self._step}-{self._calls}"

    async def post(self, path: str, body: Json) -> Any:
        answer = await self.api.send(path, exact.dumps(body).encode(), idempotency_key=self.key())
        return answer.body

    async def open_account(self, name: str, **more: object) -> None:
        customer = {
            "external_id": self.id(name),
            "name": PEOPLE[name],
            "email": f"billing@{name}.example",
            "currency": CURRENCY,
            **more,
        }
        await self.api.post("/core/api/v1/customers", {"customer": customer})

    async def subscribe(self, name: str, plan: LifePlan) -> str:
        body = {"customer_id": self.id(name), "plan_code": plan.code}
        return str((await self.post("/api/v1/subscribe", body))["subscription_id"])

    async def can(self, name: str) -> Json:
        answer = await self.api.get(f"/api/v1/can?customer_id={segment(self.id(name))}&feature={FEATURE}")
        return {"allowed": bool(answer["allowed"]), "reason": str(answer["reason"])}

    async def invoices(self, name: str) -> list[Json]:
        """Oldest first, without their fees."""
        path = f"/core/api/v1/customers/{segment(self.id(name))}/invoices?per_page=100"
        found: list[Json] = (await self.api.get(path))["invoices"]
        return sorted(found, key=lambda one: int(one["sequential_id"]))

    async def pay(self, invoice_id: str, cents: int) -> None:
        payment = {"invoice_id": invoice_id, "amount_cents": cents, "reference": "bank transfer"}
        await self.post("/core/api/v1/payments", {"payment": payment})

    async def use(self, *events: Json) -> None:
        await self.api.post("/api/v1/events/batch", {"events": list(events)})

    def calls(self, name: str, label: str, count: int, at: datetime) -> list[Json]:
        """Calls a second apart."""
        return [self._event(name, f"{label}-{n}", CALLS, at + timedelta(seconds=n), {}) for n in range(count)]

    def pages(self, name: str, label: str, count: int, at: datetime) -> Json:
        return self._event(name, label, PAGES, at, {"pages": count})

    def _event(self, name: str, label: str, code: str, at: datetime, properties: Json) -> Json:
        return {
            "transaction_id": f"life-{self.months.tag}-{name}-{label}",
            "customer_id": self.id(name),
            "metric_code": code,
            "timestamp": to_instant(at),
            "properties": properties,
        }


@dataclass(frozen=True)
class Step:
    """Something done on a date; what it returns is kept."""

    name: str
    at: tuple[int, int, int]
    act: Callable[[Stage], Awaitable[Json]]


async def live(stage: Stage, clock: OrganizationClock) -> None:
    """Do every step that the journal does not hold."""
    for step in STEPS:
        if step.name in stage.journal.facts:
            continue
        at = stage.months.at(*step.at)
        if clock.now is not None and clock.now > at:
            raise UsageError(
                f"the organization's clock was turned to {clock.now:%Y-%m-%d}, past {at:%Y-%m-%d} where the life"
                f" was interrupted: remove {stage.journal.path.parent} and another one begins next month"
            )
        await clock.move_to(at)
        stage.enter(step.name)
        stage.journal.add(step.name, await step.act(stage))


async def _open(stage: Stage) -> Json:
    await catalog.publish(stage.api)
    for name in PEOPLE:
        await stage.open_account(name, **({"tax_codes": [catalog.VAT]} if name == DORA else {}))
    for name, coupon in ((DORA, catalog.TEN_PERCENT), (FINN, catalog.FIVE_OFF)):
        applied = {"external_customer_id": stage.id(name), "coupon_code": coupon}
        await stage.post("/core/api/v1/applied_coupons", {"applied_coupon": applied})
    return {}


async def _top_up(stage: Stage) -> Json:
    """Credit is bought by an invoice, and there once that is paid."""
    wanted = {
        "external_customer_id": stage.id(EMIL),
        "name": "Prepaid",
        "rate_amount": "1",
        "currency": CURRENCY,
        "paid_credits": str(TOP_UP_CENTS // 100),
    }
    wallet = (await stage.post("/core/api/v1/wallets", {"wallet": wanted}))["wallet"]
    [invoice] = await stage.invoices(EMIL)
    await stage.pay(str(invoice["lago_id"]), TOP_UP_CENTS)
    return {"wallet_id": wallet["lago_id"]}


async def _subscribe(stage: Stage) -> Json:
    plans = {ADA: STARTER, BERT: STARTER, CLEO: PRO, DORA: PRO, EMIL: TEAM, FINN: STARTER}
    made = {name: await stage.subscribe(name, plan) for name, plan in plans.items()}
    [invoice] = await stage.invoices(CLEO)
    await stage.pay(str(invoice["lago_id"]), PRO.fee_cents)
    return made


async def _use(stage: Stage) -> Json:
    at = stage.months.at(0, 9)
    await stage.use(
        *stage.calls(ADA, "starter", ADA_ON_STARTER, at),
        *stage.calls(BERT, "calls", BERT_CALLS, at),
        *stage.calls(CLEO, "calls", CLEO_CALLS, at),
        *stage.calls(DORA, "calls", DORA_CALLS, at),
        stage.pages(DORA, "pages", DORA_PAGES, at),
        stage.pages(EMIL, "pages", EMIL_PAGES, at),
        *stage.calls(FINN, "calls", FINN_CALLS, at),
    )
    return {}


async def _upgrade(stage: Stage) -> Json:
    body = {"customer_id": stage.id(ADA), "plan_code": PRO.code}
    shown = await stage.api.post("/api/v1/subscriptions/preview", body)
    changed = await stage.post("/api/v1/billing/upgrade", body)
    kept = ("credit_amount_cents", "debit_amount_cents", "net_amount_cents", "amount_due_now_cents")
    return {name: shown[name] for name in kept} | {"invoice_id": changed["invoice_id"]}


async def _cancel_later(stage: Stage) -> Json:
    subscription = stage.journal.facts["subscribe"][BERT]
    ended = await stage.api.delete(
        f"/api/v1/subscriptions/{segment(subscription)}", idempotency_key=stage.key()
    )
    return {"ends_at": ended["ends_at"], **await stage.can(BERT)}


async def _cancel_now(stage: Stage) -> Json:
    subscription = stage.journal.facts["subscribe"][CLEO]
    await stage.api.delete(
        f"/api/v1/subscriptions/{segment(subscription)}?cancellation_policy=immediate&credit_action=refund",
        idempotency_key=stage.key(),
    )
    return await stage.can(CLEO)


async def _still_there(stage: Stage) -> Json:
    await stage.use(*stage.calls(ADA, "pro", ADA_ON_PRO, stage.months.at(0, 24)))
    return await stage.can(BERT)


async def _renewed(stage: Stage) -> Json:
    return await stage.can(BERT)


async def _late(stage: Stage) -> Json:
    """Calls of the first month reach us five days after it was billed."""
    await stage.use(*stage.calls(FINN, "late", FINN_LATE_CALLS, stage.months.at(0, 27)))
    billed = (await stage.invoices(FINN))[-1]
    found = (await stage.api.get(f"/core/api/v1/invoices/{billed['lago_id']}/adjustments"))["adjustments"]
    return {
        "number": billed["number"],
        "adjustments": [{name: one[name] for name in ("status", "net_amount_cents")} for one in found],
    }


async def _later_use(stage: Stage) -> Json:
    at = stage.months.at(1, 7)
    await stage.use(
        *stage.calls(ADA, "next", ADA_NEXT_MONTH, at), stage.pages(EMIL, "next", EMIL_NEXT_PAGES, at)
    )
    return {}


async def _downgrade(stage: Stage) -> Json:
    body = {"customer_id": stage.id(ADA), "plan_code": STARTER.code}
    changed = await stage.post("/api/v1/billing/upgrade", body)
    kept = ("plan_code", "pending_plan", "effective_at")
    return {name: changed[name] for name in kept}


async def _setup(stage: Stage) -> Json:
    fee = {"add_on_code": catalog.SETUP, "units": 1}
    body = {"external_customer_id": stage.id(DORA), "currency": CURRENCY, "fees": [fee]}
    made = (await stage.post("/core/api/v1/invoices", {"invoice": body}))["invoice"]
    return {"number": made["number"]}


async def _gift(stage: Stage) -> Json:
    wallet_id = stage.journal.facts["top-up"]["wallet_id"]
    granted = {"wallet_id": wallet_id, "granted_credits": str(GIFT_CENTS // 100)}
    await stage.post("/core/api/v1/wallet_transactions", {"wallet_transaction": granted})
    return {}


async def _nothing(_stage: Stage) -> Json:
    """Time alone bills what is due."""
    return {}


STEPS = (
    Step("open", (0, 1, 0), _open),
    Step("top-up", (0, 1, 0), _top_up),
    Step("subscribe", (0, 1, 0), _subscribe),
    Step("use", (0, 10, 0), _use),
    Step("upgrade", (0, UPGRADE_DAY, 12), _upgrade),
    Step("cancel-later", (0, 18, 0), _cancel_later),
    Step("cancel-now", (0, CANCEL_DAY, 12), _cancel_now),
    Step("still-there", (0, 25, 0), _still_there),
    Step("renewed", (1, 1, _AFTER_MIDNIGHT_H), _renewed),
    Step("late", (1, 5, 0), _late),
    Step("later-use", (1, 8, 0), _later_use),
    Step("downgrade", (1, 10, 0), _downgrade),
    Step("setup", (1, 12, 0), _setup),
    Step("gift", (1, 15, 0), _gift),
    Step("the-end", (2, 1, _AFTER_MIDNIGHT_H), _nothing),
)
