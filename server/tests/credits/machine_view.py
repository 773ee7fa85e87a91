"""What the API must show of a customer, by path: the balance, every grant, hold and budget."""

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from credits.credit_model import Model
from credits.credit_values import Account, ByKey, Customer, Entity, Grant, Hold, Id, shown_grant, total

API = "/api/v1"
PAGE = 100
INTERVALS = ("hour", "day", "month", "run")


def view(model: Model, customer: Customer) -> dict[str, Any]:
    place, credits = f"{API}/customers/{quote(customer.name)}", f"{API}/credits/{quote(customer.name)}"
    account = customer.accounts.get("credits") or Account(customer.zone)
    holds = [hold for one in customer.accounts.values() for hold in one.holds]
    return {
        f"{credits}/balance": {
            "balance": account.balance,
            "held_credits": account.held,
            "receivable_credits": total(account.owed),
            "granted_credits": account.moved("grant"),
            "consumed_credits": -account.moved("deduct"),
            "expired_credits": -account.moved("expire"),
            "as_of": model.now,
        },
        f"{credits}/holds?limit={PAGE}": {
            "holds": [_hold(one) for one in sorted(holds, key=lambda hold: -hold.number)[:PAGE]]
        },
        **{
            f"{credits}/grants?status=all&limit={PAGE}&credit_system={code}": {
                "grants": [shown_grant(grant) for grant in one.grants[: -1 - PAGE : -1]]
            }
            for code, one in customer.accounts.items()
        },
        f"{place}/credit-systems": {"balances": ByKey("credit_system", _systems(model, customer))},
        **{
            f"{place}/entities/{one.name}/credit-systems": _entity(model, customer, one)
            for one in {one.name: one for one in customer.entities}.values()
        },
        **dict(_budgets(model, customer, place)),
    }


def _hold(hold: Hold) -> dict[str, Any]:
    return {
        "hold_id": Id(hold),
        "status": hold.status,
        "held": hold.amount,
        "settled": hold.settled,
        "uncovered": hold.uncovered,
        "feature": hold.feature,
        "entity_id": hold.spend.entity.name if hold.spend.entity else None,
        "credit_system": hold.system,
        "expires_at": hold.expires_at,
    }


def _systems(model: Model, customer: Customer) -> dict[str, Any]:
    return {
        code: {
            "available": one.available([None], model.now),
            "sources": [_source(grant, [None]) for grant in one.of([None], model.now)],
        }
        for code, one in customer.accounts.items()
    }


def _entity(model: Model, customer: Customer, entity: Entity) -> dict[str, Any]:
    """Its own, what those above it have, and the customer's, in this order."""
    spends = entity.pools if entity.may_spend else []
    balances = {
        code: {
            "entity_available": one.available(entity.chain, model.now),
            "shared_available": one.available([None], model.now),
            "effective_available": one.available(spends, model.now),
            "pool_policy": entity.policy,
            "sources": [_source(grant, spends) for grant in one.of([*entity.chain, None], model.now)],
        }
        for code, one in customer.accounts.items()
    }
    return {"entity_status": entity.status, "balances": ByKey("credit_system", balances)}


def _source(grant: Grant, spends: Iterable[Entity | None]) -> dict[str, Any]:
    return {
        "id": Id(grant),
        "entity_id": grant.owner.name if grant.owner else None,
        "parent_source_id": Id(grant.parent) if grant.parent else None,
        "initial": grant.amount,
        "remaining": grant.left,
        "priority": grant.priority,
        "expires_at": grant.expires_at,
        "available": grant.owner in spends,
    }


def _budgets(model: Model, customer: Customer, place: str) -> Iterator[tuple[str, Any]]:
    """Of everybody who has or had any, from the shortest interval to the longest."""
    for system, account in customer.accounts.items():
        for owner in dict.fromkeys(one.entity for one in account.budgets):
            if owner is not None and owner.status == "deleted":
                continue
            there = [one for one in account.budgets if one.entity is owner and not one.removed]
            there.sort(key=lambda one: INTERVALS.index(one.interval))
            whose = f"/entities/{owner.name}" if owner else ""
            said = {"budgets": [model.shown_budget(account, one) for one in there]}
            yield f"{place}{whose}/budgets?credit_system={system}", said
