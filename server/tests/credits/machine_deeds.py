"""The deeds of the state machine: drawn by Hypothesis out of what there is in the model at the moment."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote

from hypothesis import strategies as st

from credits.credit_model import Model
from credits.credit_values import Account, Said
from credits.machine_house import Deed
from credits.machine_view import API, INTERVALS
from world import rfc3339

T = TypeVar("T")

NAMES = ("team", "agent", "run")
FEATURES = ("chat", "render")
SYSTEMS = ("credits", "gpu")
NO_HOLD = "hold_0190c4a55e8e7c1e8f4e8a4d1f6f8f11"
NO_GRANT = "grant_0190c4a55e8e7c1e8f4e8a4d1f6f8f11"
NO_SPENDING = "txn_0190c4a55e8e7c1e8f4e8a4d1f6f8f11"

AMOUNTS = st.one_of(
    st.integers(1, 30).map(Decimal),
    st.sampled_from(
        ["0.1", "0.3", "2.5", "33.333333333333", "0.000000000001", "999999999999.999999999999"]
    ).map(Decimal),
)
# Far enough for holds and budgets of an hour, and for weeks and months of a plan.
SPANS = st.sampled_from(
    [
        timedelta(milliseconds=400),
        timedelta(seconds=1),
        timedelta(minutes=30),
        timedelta(hours=1),
        timedelta(hours=9),
        timedelta(days=1),
        timedelta(days=7),
        timedelta(days=31),
    ]
)


def choose(data: st.DataObject, among: Sequence[T], what: str) -> T:
    """One of what there is at the moment. What there is may depend on how far a call came that was harmed, and Hypothesis
    insists that what it draws from does not: so it draws a number."""
    return among[data.draw(st.integers(0, 999), what) % len(among)]


class Deeds:
    """Each method makes up a deed of its kind, and changes nothing."""

    def __init__(self, model: Model, data: st.DataObject, key: str) -> None:
        """`key` is used by the deed, or not."""
        self.model, self._data, self._key = model, data, key

    def grant(self) -> Deed:
        customer = self._customer()
        source = self._one(["manual", "top_up", "top_up", "promotion"], "source")
        amount, priority = self._amount(), self._one([0, 50, 50, 90], "priority")
        span = self._data.draw(st.one_of(st.none(), SPANS), "expires")
        expires_at = None if span is None else self.model.now + span
        owner, system = self._owner(customer), self._one([None, None, "gpu", "none"], "system")
        reference = self._one([None, None, None, "first", "second"], "reference")
        body = {"amount": amount, "source": source, "priority": priority}
        body |= {} if expires_at is None else {"expires_at": rfc3339(expires_at.isoformat())}
        return self._deed(
            "grant",
            "POST /credits/{customer}/grants",
            body | _given(entity_id=owner, credit_system=system, reference=reference),
            lambda model: model.grant(
                customer,
                amount,
                source,
                priority=priority,
                expires_at=expires_at,
                system=system,
                entity=owner,
                reference=reference,
            ),
            customer=customer,
        )

    def void(self) -> Deed:
        customer = self._customer()
        there = [one for account in self._accounts(customer) for one in account.grants if one.id is not None]
        full = [one for one in there if one.left]
        grant = choose(self._data, [one.id for one in [*full * 4, *there]] or [NO_GRANT], "grant") or NO_GRANT
        amount = self._data.draw(st.one_of(st.none(), AMOUNTS), "amount")
        return self._deed(
            "void",
            "POST /credits/{customer}/grants/{grant}/void",
            None if amount is None else {"amount": amount},
            lambda model: model.void(customer, grant, amount),
            customer=customer,
            grant=grant,
        )

    def refund(self) -> Deed:
        customer = self._customer()
        there = [one.id for account in self._accounts(customer) for one in account.deductions]
        spent = choose(self._data, there or [NO_SPENDING], "deduction") or NO_SPENDING
        amount = self._data.draw(st.one_of(st.none(), AMOUNTS), "amount")
        return self._deed(
            "refund",
            "POST /credits/{customer}/transactions/{spent}/refund",
            None if amount is None else {"amount": amount},
            lambda model: model.refund(customer, spent, amount),
            customer=customer,
            spent=spent,
        )

    def correct(self) -> Deed:
        customer, amount = self._customer(), self._amount() * self._one([1, -1], "sign")
        system = self._one([None, None, "gpu"], "system")
        return self._deed(
            "correct",
            "POST /credits/{customer}/corrections",
            {"amount": amount, "description": "Found out"} | _given(credit_system=system),
            lambda model: model.correct(customer, amount, system),
            customer=customer,
        )

    def transfer(self) -> Deed:
        giver, taker, amount = self._customer(), self._customer(), self._amount()
        system = self._one([None, None, "gpu"], "system")
        made = self._deed(
            "transfer",
            "POST /credits/transfers",
            {"from_customer_id": giver, "to_customer_id": taker, "amount": amount}
            | _given(credit_system=system),
            lambda model: model.transfer(giver, taker, amount, system),
            customer=giver,
            keyed=True,
        )
        return replace(made, customers=(giver, taker))

    def deduct(self) -> Deed:
        customer = self._customer()
        amount, feature = self._amount(), self._one(FEATURES, "feature")
        entity, system = self._owner(customer), self._one([None, None, None, *SYSTEMS, "none"], "system")
        body = {"customer_id": customer, "feature": feature, "credits": amount}
        return self._deed(
            "deduct",
            "POST /check-and-deduct",
            body | _given(entity_id=entity, credit_system=system),
            lambda model: model.deduct(customer, amount, feature, entity, system),
            customer=customer,
        )

    def track(self) -> Deed:
        customer = self._customer()
        units = Decimal(self._one([1, 500, 1234, 5000, 100000], "units"))
        entity, system = self._owner(customer), self._one([None, None, None, *SYSTEMS], "system")
        body = {"customer_id": customer, "feature_code": "tokens", "properties": {"n": units}}
        return self._deed(
            "track",
            "POST /usage/track",
            body | _given(entity_id=entity, credit_system_code=system),
            lambda model: model.track(customer, "tokens", units, entity, system),
            customer=customer,
            keyed=True,
        )

    def hold(self) -> Deed:
        customer = self._customer()
        amount, feature = self._amount(), self._one(FEATURES, "feature")
        seconds = self._one([1, 1800, 5400, 86400, 604800], "expires in")
        entity, system = self._owner(customer), self._one([None, None, None, *SYSTEMS], "system")
        body = {"amount": amount, "feature": feature, "expires_in": seconds}
        lasts = timedelta(seconds=seconds)
        return self._deed(
            "hold",
            "POST /credits/{customer}/holds",
            body | _given(entity_id=entity, credit_system=system),
            lambda model: model.hold(customer, amount, feature, lasts, entity, system),
            customer=customer,
        )

    def settle(self) -> Deed:
        customer, hold = self._held()
        amount = self._data.draw(st.one_of(AMOUNTS, st.just(Decimal(0))), "amount")
        limit = self._one([None, Decimal(0), Decimal(3), Decimal(1000)], "uncovered limit")
        return self._deed(
            "settle",
            "POST /credits/{customer}/holds/{hold}/settle",
            {"amount": amount} | _given(uncovered_limit=limit),
            lambda model: model.settle(customer, hold, amount, limit or Decimal(0)),
            customer=customer,
            hold=hold,
        )

    def release(self) -> Deed:
        customer, hold = self._held()
        return self._deed(
            "release",
            "POST /credits/{customer}/holds/{hold}/release",
            None,
            lambda model: model.release(customer, hold),
            customer=customer,
            hold=hold,
        )

    def set_budget(self) -> Deed:
        customer = self._customer()
        entity, interval = self._owner(customer), self._one(INTERVALS, "interval")
        system, limit = self._one([None, None, "gpu"], "system"), Decimal(self._one([0, 5, 20, 60], "limit"))
        return self._deed(
            "set_budget",
            f"PUT /customers/{{customer}}{_of(entity)}/budgets/{{interval}}",
            {"limit": limit} | _given(credit_system=system),
            lambda model: model.set_budget(customer, entity, interval, limit, system),
            customer=customer,
            entity=entity,
            interval=interval,
        )

    def remove_budget(self) -> Deed:
        customer = self._customer()
        entity, interval = self._owner(customer), self._one(INTERVALS, "interval")
        system = self._one([None, None, "gpu"], "system")
        return self._deed(
            "remove_budget",
            f"DELETE /customers/{{customer}}{_of(entity)}/budgets/{{interval}}",
            None,
            lambda model: model.remove_budget(customer, entity, interval, system),
            query="" if system is None else f"?credit_system={system}",
            customer=customer,
            entity=entity,
            interval=interval,
        )

    def put_entity(self) -> Deed:
        customer, name = self._customer(), self._one(NAMES, "name")
        status = self._one(["active"] * 4 + ["suspended", "suspended", "deleted"], "status")
        parent = self._one([..., ..., ..., None, *NAMES], "parent")
        policy = self._one([None, None, "entity_only", "entity_then_customer", "customer_only"], "policy")
        body = {"status": status} | ({} if parent is ... else {"parent_entity_id": parent})
        return self._deed(
            "put_entity",
            "PUT /customers/{customer}/entities/{entity}",
            body | _given(pool_policy=policy),
            lambda model: model.put_entity(customer, name, status, parent, policy),
            customer=customer,
            entity=name,
            keyed=True,
        )

    def allocate(self) -> Deed:
        return self._transfer("allocate", "credit-allocations", Model.allocate)

    def deallocate(self) -> Deed:
        return self._transfer("deallocate", "credit-deallocations", Model.deallocate)

    def _transfer(self, kind: str, name: str, does: Callable[[Model, str, str, str, Decimal], Said]) -> Deed:
        customer, amount = self._customer(), self._amount()
        entity = self._entity(customer)
        system = self._one(["credits", "credits", "credits", "gpu"], "system")
        return self._deed(
            kind,
            f"POST /customers/{{customer}}/entities/{{entity}}/{name}",
            {"credit_system": system, "amount": amount},
            lambda model: does(model, customer, entity, system, amount),
            customer=customer,
            entity=entity,
            keyed=True,
        )

    def subscribe(self) -> Deed:
        customer = self._customer()
        return self._deed(
            "subscribe",
            "POST /subscribe",
            {"customer_id": customer, "plan_code": "basic"},
            lambda model: model.subscribe(customer, "basic"),
            customer=customer,
        )

    # What they are made of.

    def _deed(
        self,
        kind: str,
        operation: str,
        body: Any,
        does: Callable[[Model], Said],
        *,
        customer: str,
        query: str = "",
        keyed: bool = False,
        **place: str | None,
    ) -> Deed:
        method, path = operation.split(" ")
        named = {name: quote(value) for name, value in {**place, "customer": customer}.items() if value}
        uses_key = keyed or self._data.draw(st.booleans(), "keyed")
        return Deed(
            kind,
            method,
            API + path.format(**named) + query,
            body,
            does,
            (customer,),
            operation,
            self._key if uses_key else None,
        )

    def _one(self, among: Sequence[T], what: str) -> T:
        return self._data.draw(st.sampled_from(among), what)

    def _amount(self) -> Decimal:
        return self._data.draw(AMOUNTS, "amount")

    def _customer(self) -> str:
        return self._one(list(self.model.customers), "customer")

    def _entity(self, customer: str) -> str:
        """The name of an entity, most of the time of one that there is."""
        known = [one.name for one in self.model.customers[customer].alive]
        return choose(self._data, [*known * 4, *NAMES], "entity")

    def _owner(self, customer: str) -> str | None:
        """An entity, or the customer itself."""
        return None if self._one([True, False], "the customer itself") else self._entity(customer)

    def _accounts(self, customer: str) -> list[Account]:
        return list(self.model.customers[customer].accounts.values())

    def _held(self) -> tuple[str, str]:
        """A customer and the id of a hold, most of the time of one that is open."""
        holds = [
            (customer.name, one.id, one.status)
            for customer in self.model.customers.values()
            for account in customer.accounts.values()
            for one in account.holds
            if one.id is not None
        ]
        still_open = [one for one in holds if one[2] == "open"]
        name, hold, _ = choose(self._data, [*still_open * 4, *holds] or [("ann", NO_HOLD, "")], "hold")
        return name, hold


def _given(**members: object) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _of(entity: str | None) -> str:
    return "" if entity is None else "/entities/{entity}"
