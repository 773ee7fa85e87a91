"""What credits must do, said as plainly as possible: lists, dicts and Decimals.

Written from the contract (1.6, 2.9, 4.1-4.3, Decisions 14 and 15) and the words of `credits/README.md`; it shares no code
with the product. Nothing here is quick, safe or stored: it only has to be right. Every deed returns what the API must say
to it, or raises `Refused`, having changed nothing.

The model has ids of its own (`number`, which rises with every grant) and learns the server's from its answers.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from credits.credit_values import (
    FOREVER,
    ZERO,
    Account,
    Budget,
    ByKey,
    Customer,
    Deduction,
    Entity,
    Grant,
    Hold,
    Id,
    PlanGrant,
    Refused,
    Said,
    Spend,
    Subscription,
    draw,
    plus,
    shown_grant,
    total,
    window_of,
)

DEFAULT = "credits"


class Model:
    """Everything that was done so far, and what it came to."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.customers: dict[str, Customer] = {}
        self.systems: dict[str, list[str]] = {DEFAULT: []}
        self.rates: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        self.plans: dict[str, list[PlanGrant]] = {}
        self.keys: dict[tuple[str, str], object] = {}
        self.doubtful: set[tuple[str, str]] = set()
        self.grants = 0
        self.holds = 0

    def copy(self) -> "Model":
        return deepcopy(self)

    # Looking up.

    def customer(self, name: str) -> Customer:
        if name not in self.customers:
            raise Refused(404, "customer_not_found")
        return self.customers[name]

    def system(self, code: str | None, feature: str | None = None) -> str:
        """The one named, else the one that the feature belongs to, else the default."""
        if code is not None:
            if code not in self.systems:
                raise Refused(404, "credit_system_not_found")
            return code
        return next((one for one, features in self.systems.items() if feature in features), DEFAULT)

    def account(self, customer: Customer, system: str) -> Account:
        return customer.accounts.setdefault(system, Account(customer.zone))

    # Time.

    def turn(self, to: datetime) -> Said:
        """What falls due up to and including `to`, each at its time: first holds end, then periods begin, then grants end."""
        while True:
            times = [
                at
                for account in self._accounts()
                for at in (
                    *(one.expires_at for one in account.holds if one.status == "open"),
                    *(one.expires_at for one in account.grants if one.left > 0 and one.expires_at),
                )
            ]
            times += [
                one.subscription.period(interval, self.now)[1]
                for one in self.customers.values()
                if one.subscription
                for interval in {grant.interval for grant in one.subscription.grants if grant.interval}
            ]
            at = min(times, default=FOREVER)
            if at > to:
                self.now = to
                return {"now": to}
            self.now = at
            for account in self._accounts():
                for hold in account.holds:
                    if hold.status == "open" and hold.expires_at <= at:
                        account.put_back(hold, "expired")
            for customer in self.customers.values():
                if customer.subscription:
                    self._renew(customer, customer.subscription)
            for account in self._accounts():
                account.expire(at)

    def _accounts(self) -> list[Account]:
        return [account for one in self.customers.values() for account in one.accounts.values()]

    # Customers and entities.

    def create_customer(self, name: str, zone: str) -> Said:
        self.customers.setdefault(name, Customer(name, zone))
        return {"customer": {"external_id": name}}

    def put_entity(self, customer: str, name: str, status: str, parent: Any, policy: str | None) -> Said:
        """`parent` ...: it stays; `policy` None: it stays."""
        owner = self.customer(customer)
        try:
            latest: Entity | None = owner.latest(name)
        except Refused:
            if status == "deleted":
                raise
            latest = None
        before = None if latest is None or latest.status == "deleted" else latest
        if status == "deleted" and before is None:
            assert latest is not None
            return self._told("unchanged", latest)
        after = Entity(name) if before is None else replace(before)
        if status == "deleted":
            if any(one.parent is before for one in owner.alive):
                raise Refused(409, "entity_has_children")
        else:
            if parent is None:
                after.parent = None
            elif isinstance(parent, str):
                above = next((one for one in owner.alive if one.name == parent), None)
                if above is None and parent != name:
                    raise Refused(404, "parent_entity_not_found")
                if above is before or (above is not None and before in above.chain):
                    raise Refused(422, "entity_cycle")
                after.parent = above
            after.policy = policy or after.policy
        after.status = status
        if before is None:
            owner.entities.append(after)
            action, entity = "created" if latest is None else "reactivated", after
        else:
            same = (before.status, before.parent, before.policy) == (after.status, after.parent, after.policy)
            action = "unchanged" if same else "updated"
            if before.status != after.status:
                action = {"active": "activated", "suspended": "suspended", "deleted": "deleted"}[status]
            was_active = before.status == "active"
            before.status, before.parent, before.policy = after.status, after.parent, after.policy
            entity = before
            if was_active and status == "active":
                return self._told(action, entity)
        if action in ("suspended", "deleted"):
            self._close(owner, entity)
        elif entity.status == "active" and owner.subscription:
            self._grant_running(owner, owner.subscription, [entity])
        return self._told(action, entity)

    def _told(self, action: str, entity: Entity) -> Said:
        shown = {
            "external_id": entity.name,
            "status": entity.status,
            "parent_entity_id": entity.parent.name if entity.parent else None,
            "pool_policy": entity.policy,
        }
        return {"action": action, "entity": shown}

    def _close(self, owner: Customer, entity: Entity) -> None:
        """Allocated top-ups return to what they came from, all else that the entity has is gone."""
        for account in owner.accounts.values():
            self._close_in(account, entity)

    def _close_in(self, account: Account, entity: Entity) -> None:
        mine = [one for one in account.of([entity], self.now) if one.source == "allocation"]
        self._return(account, [(one, one.left) for one in mine])
        for one in account.grants:
            if one.owner is entity and one.left > 0:
                account.move("expire", -one.left)
                one.left = ZERO

    # Credits come.

    def give(
        self,
        account: Account,
        amount: Decimal,
        source: str,
        *,
        owner: Entity | None = None,
        expires_at: datetime | None = None,
        priority: int = 50,
        parent: Grant | None = None,
        reference: tuple[Any, ...] = (),
    ) -> Grant:
        self.grants += 1
        made = Grant(
            self.grants,
            owner,
            amount,
            amount,
            priority,
            source,
            expires_at,
            self.now,
            parent,
            reference,
        )
        account.grants.append(made)
        return made

    def grant(
        self,
        customer: str,
        amount: Decimal,
        source: str,
        *,
        priority: int = 50,
        expires_at: datetime | None = None,
        system: str | None = None,
        entity: str | None = None,
        reference: str | None = None,
    ) -> Said:
        """With a reference, once."""
        owner = self.customer(customer)
        code = self.system(system)
        there = self.account_or_none(owner, code)
        for one in there.grants if there and reference else ():
            if one.reference == (reference,):
                return {**shown_grant(one), "balance": there.balance if there else ZERO}
        if expires_at is not None and expires_at <= self.now:
            raise Refused(400, "invalid_input")
        to = owner.living(entity)
        if to is not None and not to.may_spend:
            raise Refused(422, "entity_inactive")
        account = self.account(owner, code)
        made = self.give(
            account,
            amount,
            source,
            owner=to,
            expires_at=expires_at,
            priority=priority,
            reference=(reference,) if reference else (),
        )
        account.move("grant", amount)
        if to is None:
            account.pay(made)
        return {**shown_grant(made), "balance": account.balance}

    # Credits of plans.

    def subscribe(self, customer: str, plan: str) -> Said:
        owner = self.customer(customer)
        if owner.subscription is not None:
            return {"status": "active"}
        owner.subscription = Subscription(self.now, owner.zone, self.plans[plan])
        self._grant_running(owner, owner.subscription, [None, *self._active(owner)])
        return {"status": "active"}

    def _active(self, owner: Customer) -> list[Entity]:
        return [one for one in owner.entities if one.status == "active"]

    def _grant_running(
        self, owner: Customer, subscription: Subscription, to: Sequence[Entity | None]
    ) -> None:
        for grant in subscription.grants:
            self._grant_period(owner, subscription, grant, to)

    def _grant_period(
        self, owner: Customer, subscription: Subscription, grant: PlanGrant, to: Sequence[Entity | None]
    ) -> None:
        """Each gets what the plan grants for the period that runs, once."""
        start, end = None, None
        if grant.interval is not None:
            start, end = subscription.period(grant.interval, self.now)
        for one in to:
            if (one is None) != (grant.scope == "customer"):
                continue
            reference = (grant.system, grant.interval, start, one)
            if reference in subscription.given:
                continue
            subscription.given.add(reference)
            account = self.account(owner, grant.system)
            made = self.give(
                account,
                grant.amount,
                "plan",
                owner=one,
                expires_at=end,
                priority=grant.priority,
                reference=reference,
            )
            account.move("grant", grant.amount)
            if one is None:
                account.pay(made)

    def _renew(self, owner: Customer, subscription: Subscription) -> None:
        """Where a period begins now: what is left of the one before is carried over, then the new one's comes."""
        for grant in subscription.grants:
            if grant.interval is None:
                continue
            start, end = subscription.period(grant.interval, self.now)
            if start != self.now or start == subscription.started_at:
                continue
            to: list[Entity | None] = [None] if grant.scope == "customer" else [*self._active(owner)]
            if grant.rollover is not None:
                for one in to:
                    self._roll_over(owner, grant, grant.rollover[0], one, end)
            self._grant_period(owner, subscription, grant, to)

    def _roll_over(
        self, owner: Customer, grant: PlanGrant, limit: Decimal | None, to: Entity | None, end: datetime
    ) -> None:
        account = self.account(owner, grant.system)
        for old in list(account.grants):
            if old.source != "plan" or old.owner is not to or old.expires_at != self.now:
                continue
            if old.reference[1] != grant.interval:
                continue
            left = plus(old.left, old.lapsed)
            if old.left > 0:
                account.move("expire", -old.left)
                old.lapsed, old.left = left, ZERO
            carried = left if limit is None else min(limit, left)
            if carried > 0:
                made = self.give(
                    account, carried, "rollover", owner=to, expires_at=end, priority=old.priority
                )
                account.move("grant", carried)
                if to is None:
                    account.pay(made)

    # Credits go.

    def deduct(
        self, customer: str, amount: Decimal, feature: str, entity: str | None, system: str | None
    ) -> Said:
        owner = self.customer(customer)
        account = self.account_or_none(owner, self.system(system, feature))
        if account is None:
            return {"allowed": False, "remaining": ZERO, "reason": "insufficient_credits"}
        who = owner.living(entity)
        pools: list[Entity | None] = [None] if who is None else who.pools
        refused = self._refused(account, who, pools, amount)
        if refused is not None:
            return {"allowed": False, "remaining": account.available(pools, self.now), **refused}
        spent = self._spend(account, who, pools, amount)
        left = account.available(pools, self.now)
        return {"allowed": True, "remaining": left, "reason": None, "transaction_id": Id(spent)}

    def account_or_none(self, owner: Customer, system: str) -> Account | None:
        return owner.accounts.get(system)

    def track(
        self, customer: str, metric: str, units: Decimal, entity: str | None, system: str | None
    ) -> Said:
        """Usage in units of a metric, at its rate; rounded once to 12 places."""
        owner = self.customer(customer)
        who = None if entity is None else owner.latest(entity)
        code = next(code for (code, rated) in self.rates if rated == metric) if system is None else system
        if code not in self.systems:
            raise Refused(404, "credit_system_not_found")
        if (code, metric) not in self.rates:
            raise Refused(422, "metric_not_rated")
        per, credits = self.rates[code, metric]
        with localcontext(prec=60):
            cost = (units * credits / per).quantize(Decimal("1e-12"), rounding=ROUND_HALF_UP)
        if cost <= 0:
            raise Refused(422, "usage_not_positive")
        account = self.account_or_none(owner, code) or Account(owner.zone)
        pools: list[Entity | None] = [None] if who is None else who.pools
        before = account.available(pools, self.now)
        said: dict[str, Any] = {"metric_amount": units, "credit_system": code, "credits_required": cost}
        refused = self._refused(account, who, pools, cost)
        if refused is not None:
            if who is not None and not who.may_spend:
                before = ZERO
            # What there is, is told of who may spend it.
            said |= {"allowed": False, "credits_consumed": ZERO, "available": before, "remaining": before}
            return {**said, "deductions": [], **refused}
        spent = self._spend(account, who, pools, cost)
        said |= {
            "allowed": True,
            "operation_id": Id(spent),
            "credits_consumed": cost,
            "available": before,
            "remaining": account.available(pools, self.now),
            "deductions": [
                {"balance_source_id": Id(grant), "amount": amount, "remaining": grant.left}
                for grant, amount in spent.parts
            ],
        }
        return said

    def _refused(
        self, account: Account, who: Entity | None, pools: Sequence[Entity | None], amount: Decimal
    ) -> dict[str, Any] | None:
        """Why an amount may not be spent, as it is told: the entity, then the credits, then the first budget from below."""
        if who is not None and not who.may_spend:
            return {"reason": "entity_inactive"}
        if account.available(pools, self.now) < amount:
            return {"reason": "insufficient_credits"}
        for budget, window in account.windows(who, self.now):
            used = budget.used.get(window, ZERO)
            if plus(used, amount) > budget.limit:
                told = {
                    "entity_id": budget.entity.name if budget.entity else None,
                    "interval": budget.interval,
                    "limit": budget.limit,
                    "used": used,
                    "resets_at": window_of(budget.interval, self.now, account.zone)[1],
                }
                return {"reason": "budget_exceeded", "budget": told}
        return None

    def _spend(
        self, account: Account, who: Entity | None, pools: Sequence[Entity | None], amount: Decimal
    ) -> Deduction:
        parts, missing = draw(account.of(pools, self.now), amount)
        assert not missing
        self._take(parts)
        account.move("deduct", -amount)
        account.use(account.windows(who, self.now), amount)
        account.spends.append(Spend(who, self.now, amount))
        spent = Deduction(who, parts)
        account.deductions.append(spent)
        return spent

    def _take(self, parts: Iterable[tuple[Grant, Decimal]]) -> None:
        for grant, amount in parts:
            grant.left = plus(grant.left, -amount)

    # What undoes and moves.

    def void(self, customer: str, grant: str, amount: Decimal | None) -> Said:
        for account in self.customer(customer).accounts.values():
            for one in account.grants:
                if one.id == grant:
                    return self._void(account, one, amount)
        raise Refused(404, "grant_not_found")

    def _void(self, account: Account, grant: Grant, amount: Decimal | None) -> Said:
        if not grant.left:
            raise Refused(422, "nothing_to_void")
        wanted = grant.left if amount is None else amount
        if wanted > grant.left:
            raise Refused(422, "insufficient_credits")
        self._take([(grant, wanted)])
        account.move("void", -wanted)
        return {"type": "void", "amount": wanted, "balance": account.balance, "direction": "out"}

    def refund(self, customer: str, transaction: str, amount: Decimal | None) -> Said:
        """Back to where it was taken from, what was taken last first; what cannot stay there goes where the rest went."""
        for account in self.customer(customer).accounts.values():
            for one in account.deductions:
                if one.id == transaction:
                    return self._refund(account, one, amount)
        raise Refused(404, "transaction_not_found")

    def _refund(self, account: Account, spent: Deduction, amount: Decimal | None) -> Said:
        left = total(part for _, part in spent.parts)
        if not left:
            raise Refused(422, "already_refunded")
        wanted = missing = left if amount is None else amount
        if wanted > left:
            raise Refused(422, "refund_too_large")
        back: list[tuple[Grant, Decimal]] = []
        for place in reversed(range(len(spent.parts))):
            grant, part = spent.parts[place]
            given = min(part, missing)
            missing = plus(missing, -given)
            spent.parts[place] = grant, plus(part, -given)
            grant.left = plus(grant.left, given)
            if given:
                back.append((grant, given))
        account.move("refund", wanted)
        after = account.balance
        account.expire(self.now)
        for owner in {grant.owner for grant, _ in back if grant.owner and grant.owner.status != "active"}:
            self._close_in(account, owner)
        return {
            "type": "refund",
            "amount": wanted,
            "refunds_transaction_id": Id(spent),
            "balance_after": after,
            "balance": account.balance,
            "draws": ByKey("grant_id", {str(grant.id): {"amount": part} for grant, part in back}),
        }

    def correct(self, customer: str, amount: Decimal, system: str | None) -> Said:
        owner = self.customer(customer)
        code = self.system(system)
        if amount > 0:
            account = self.account(owner, code)
            made = self.give(account, amount, "adjustment")
            account.move("adjustment", amount)
            account.pay(made)
        else:
            there = self.account_or_none(owner, code) or Account(owner.zone)
            parts, missing = draw(there.of([None], self.now), -amount)
            if missing:
                raise Refused(422, "insufficient_credits")
            account = there
            self._take(parts)
            account.move("adjustment", amount)
        direction = "in" if amount > 0 else "out"
        return {
            "type": "adjustment",
            "amount": abs(amount),
            "direction": direction,
            "balance": account.balance,
        }

    def transfer(self, giver: str, taker: str, amount: Decimal, system: str | None) -> Said:
        """What is moved keeps priority and expiry; what the other one owes is paid of it."""
        if giver == taker:
            raise Refused(422, "same_customer")
        one, other = self.customer(giver), self.customer(taker)
        code = self.system(system)
        source = self.account_or_none(one, code) or Account(one.zone)
        parts, missing = draw(source.of([None], self.now), amount)
        if missing:
            raise Refused(422, "insufficient_credits")
        self._take(parts)
        source.move("transfer", -amount)
        target = self.account(other, code)
        made = [
            self.give(target, part, "transfer", expires_at=grant.expires_at, priority=grant.priority)
            for grant, part in parts
        ]
        target.move("transfer", amount)
        for grant in made:
            target.pay(grant)
        return {
            "transferred": True,
            "amount": amount,
            "credit_system": code,
            "from": {"customer_id": giver, "balance": source.balance},
            "to": {"customer_id": taker, "balance": target.balance},
        }

    # Holds.

    def hold(
        self,
        customer: str,
        amount: Decimal,
        feature: str,
        lasts: timedelta,
        entity: str | None,
        system: str | None,
    ) -> Said:
        owner = self.customer(customer)
        code = self.system(system, feature)
        account = self.account_or_none(owner, code)
        denied: dict[str, Any] = {"allowed": False, "hold_id": None, "held": ZERO, "expires_at": None}
        if account is None:
            return {**denied, "remaining": ZERO, "reason": "insufficient_credits"}
        who = owner.living(entity)
        pools: list[Entity | None] = [None] if who is None else who.pools
        refused = self._refused(account, who, pools, amount)
        if refused is not None:
            return {**denied, "remaining": account.available(pools, self.now), **refused}
        parts, missing = draw(account.of(pools, self.now), amount)
        assert not missing
        self._take(parts)
        account.move("hold", -amount)
        windows = account.windows(who, self.now)
        account.use(windows, amount)
        spend = Spend(who, self.now, amount)
        account.spends.append(spend)
        self.holds += 1
        made = Hold(self.holds, code, amount, feature, pools, parts, windows, self.now + lasts, spend)
        account.holds.append(made)
        return {
            "allowed": True,
            "hold_id": Id(made),
            "held": amount,
            "remaining": account.available(pools, self.now),
            "expires_at": made.expires_at,
        }

    def settle(self, customer: str, hold: str, amount: Decimal, uncovered_limit: Decimal) -> Said:
        """First what was held is taken, then what there is besides; what that does not cover is owed, up to a limit."""
        account, ending = self._open_hold(customer, hold)
        for grant, part in ending.parts:
            grant.left = plus(grant.left, part)
        account.move("release", ending.amount)
        within = min(amount, ending.amount)
        parts, missing = draw([grant for grant, _ in ending.parts], within)
        assert not missing
        self._take(parts)
        more, beyond = draw(account.of(ending.pools, self.now), plus(amount, -within))
        self._take(more)
        covered = total(part for _, part in (*parts, *more))
        if covered:
            account.move("deduct", -covered)
        uncovered = min(beyond, uncovered_limit)
        if uncovered:
            account.owed.append(uncovered)
        ending.status, ending.settled, ending.uncovered = "settled", plus(covered, uncovered), uncovered
        account.count(ending, ending.settled)
        account.expire(self.now)
        left = account.available(ending.pools, self.now)
        return {"settled": ending.settled, "uncovered": uncovered, "remaining": left}

    def release(self, customer: str, hold: str) -> Said:
        account, ending = self._open_hold(customer, hold)
        account.put_back(ending, "released")
        account.expire(self.now)
        return {"released": True, "remaining": account.available(ending.pools, self.now)}

    def _open_hold(self, customer: str, hold: str) -> tuple[Account, Hold]:
        owner = self.customer(customer)
        for account in owner.accounts.values():
            for one in account.holds:
                if one.id == hold:
                    if one.status != "open":
                        raise Refused(409, "hold_ended")
                    return account, one
        raise Refused(404, "hold_not_found")

    # Budgets.

    def set_budget(
        self, customer: str, entity: str | None, interval: str, limit: Decimal, system: str | None
    ) -> Said:
        """A new one counts what was spent in its window already, by the entity and those that stand below it now."""
        owner = self.customer(customer)
        code = self.system(system)
        of = owner.living(entity)
        account = self.account(owner, code)
        budget = self._find_budget(account, of, interval)
        if budget is not None:
            budget.limit = limit
            return self.shown_budget(account, budget)
        budget = Budget(interval, limit, of)
        account.budgets.append(budget)
        start = window_of(interval, self.now, account.zone)[0]

        def counts(spend: Spend) -> bool:
            below = of is None or (spend.entity is not None and of in spend.entity.chain)
            return below and (start is None or spend.at >= start)

        budget.used[start] = total(one.amount for one in account.spends if counts(one))
        for hold in account.holds:
            if hold.status == "open" and counts(hold.spend):
                hold.windows.append((budget, start))
        return self.shown_budget(account, budget)

    def remove_budget(self, customer: str, entity: str | None, interval: str, system: str | None) -> Said:
        owner = self.customer(customer)
        code = self.system(system)
        of = owner.living(entity)
        account = self.account_or_none(owner, code)
        budget = None if account is None else self._find_budget(account, of, interval)
        if budget is None or account is None:
            raise Refused(404, "budget_not_found")
        budget.removed = True
        return self.shown_budget(account, budget)

    def _find_budget(self, account: Account, of: Entity | None, interval: str) -> Budget | None:
        for one in account.budgets:
            if one.entity is of and one.interval == interval and not one.removed:
                return one
        return None

    def shown_budget(self, account: Account, budget: Budget) -> dict[str, Any]:
        start, end = window_of(budget.interval, self.now, account.zone)
        used = budget.used.get(start, ZERO)
        return {
            "entity_id": budget.entity.name if budget.entity else None,
            "interval": budget.interval,
            "limit": budget.limit,
            "used": used,
            "remaining": max(ZERO, plus(budget.limit, -used)),
            "period_start": start,
            "period_end": end,
        }

    # Top-ups to entities and back.

    def allocate(self, customer: str, entity: str, system: str, amount: Decimal) -> Said:
        owner = self.customer(customer)
        code = self.system(system)
        to = owner.latest(entity)
        said = {"direction": "allocation", "amount": amount, "entity_id": entity, "credit_system": code}
        account = self.account_or_none(owner, code)
        if to.status != "active":
            return self._not_moved(said, "entity_inactive", ZERO)
        if account is None:
            return self._not_moved(said, "insufficient_credits", ZERO)
        parts, missing = draw(self._movable(account, None), amount)
        if missing:
            there = total(one.left for one in self._movable(account, None))
            return self._not_moved(said, "insufficient_credits", there)
        self._take(parts)
        account.move("transfer", -amount)
        given = [
            self.give(
                account,
                part,
                "allocation",
                owner=to,
                expires_at=grant.expires_at,
                priority=grant.priority,
                parent=grant,
            )
            for grant, part in parts
        ]
        account.move("transfer", amount)
        said |= {
            "transferred": True,
            "reason": None,
            "available": total(one.left for one in self._movable(account, None)),
            "parent_sources": [
                {
                    "source_id": Id(grant),
                    "amount": part,
                    "before": plus(grant.left, part),
                    "after": grant.left,
                }
                for grant, part in parts
            ],
            "entity_sources": [
                {"source_id": Id(one), "amount": one.amount, "before": ZERO, "after": one.amount}
                for one in given
            ],
        }
        return said

    def deallocate(self, customer: str, entity: str, system: str, amount: Decimal) -> Said:
        owner = self.customer(customer)
        code = self.system(system)
        giver = owner.latest(entity)
        said = {"direction": "deallocation", "amount": amount, "entity_id": entity, "credit_system": code}
        account = self.account_or_none(owner, code)
        if giver.status != "active":
            return self._not_moved(said, "entity_inactive", ZERO)
        if account is None:
            return self._not_moved(said, "insufficient_credits", ZERO)
        parts, missing = draw(self._movable(account, giver), amount)
        if missing:
            there = total(one.left for one in self._movable(account, giver))
            return self._not_moved(said, "insufficient_credits", there)
        own = [
            {"source_id": Id(one), "amount": part, "before": one.left, "after": plus(one.left, -part)}
            for one, part in parts
        ]
        before = {one.parent: one.parent.left for one, _ in parts if one.parent}
        self._return(account, parts)
        parents = [
            {
                "source_id": Id(one),
                "amount": plus(one.left, -was),
                "before": was,
                "after": one.left,
            }
            for one, was in before.items()
        ]
        left = total(one.left for one in self._movable(account, giver))
        more = {"transferred": True, "reason": None, "available": left}
        return {**said, **more, "entity_sources": own, "parent_sources": parents}

    def _not_moved(self, said: dict[str, Any], reason: str, available: Decimal) -> Said:
        more = {"transferred": False, "reason": reason, "available": available}
        return {**said, **more, "parent_sources": [], "entity_sources": []}

    def _movable(self, account: Account, owner: Entity | None) -> list[Grant]:
        source = "top_up" if owner is None else "allocation"
        return [one for one in account.of([owner], self.now) if one.source == source]

    def _return(self, account: Account, parts: Sequence[tuple[Grant, Decimal]]) -> None:
        if not parts:
            return
        amount = total(part for _, part in parts)
        self._take(parts)
        account.move("transfer", -amount)
        for grant, part in parts:
            assert grant.parent is not None
            grant.parent.left = plus(grant.parent.left, part)
        account.move("transfer", amount)
        account.expire(self.now)
