"""Margin policies: which one is in force for a use, and what it says of the use's unit economics. Pure.

Amounts are exact cents a use. A policy is taken whole, from the most specific that is set: the customer's, then the
privilege `min_margin_percent` of the plan's entitlement, then the feature's, the plan's, the organization's, and last the
organization's setting `min_margin_percent`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from nozle_server.core.rounding import EXACT, divide

_HUNDRED = Decimal(100)


class Scope(StrEnum):
    """What a policy is of."""

    CUSTOMER = "customer"
    FEATURE = "feature"
    PLAN = "plan"
    ORGANIZATION = "organization"


class Mode(StrEnum):
    """What follows from a use that earns too little: nothing, a warning, or a denial."""

    OBSERVE = "observe"
    WARN = "warn"
    DENY = "deny"


class OnUnavailable(StrEnum):
    """How a use is judged whose economics cannot be told: as one that earns enough, or as one that does not."""

    ALLOW = "allow"
    DENY = "deny"


class EconomicsStatus(StrEnum):
    """How well the economics of a use are known. (Contract 4.7 also has `stale`: the server reads anew instead.)"""

    ESTIMATED = "estimated"
    NOT_CONFIGURED = "not_configured"
    UNAVAILABLE = "unavailable"


class Gap(StrEnum):
    """Why nobody can say what a use costs, or what it earns."""

    NO_COST_MODEL = "no_cost_model"
    NO_USAGE_TO_AVERAGE = "no_usage_to_average"
    NO_PRICE = "no_price"
    PRICED_BY_EVENTS = "priced_by_events"


_NOT_CONFIGURED = frozenset((Gap.NO_COST_MODEL, Gap.NO_PRICE))


class Ruling(StrEnum):
    ALLOW = "allow"
    WARN = "warn"
    DENY = "deny"


class Level(StrEnum):
    """The margin in a word (contract 1.7, `margin_level`)."""

    HEALTHY = "healthy"
    BELOW_MINIMUM = "below_minimum"
    NEGATIVE = "negative"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy's terms. `version_id` None: of a privilege or a setting, which have no versions; `mode` None: the
    organization's. `maximum_snapshot_age_seconds`: how old the figures may be that it is judged by."""

    minimum_margin_percent: Decimal | None = None
    minimum_margin_amount: Decimal | None = None
    maximum_estimated_cost: Decimal | None = None
    mode: Mode | None = None
    on_unavailable: OnUnavailable = OnUnavailable.ALLOW
    maximum_snapshot_age_seconds: int | None = None
    version_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies that are set and may bear on a question: of its feature, its customer, the customer's plans by id."""

    organization: Policy | None = None
    plans: Mapping[UUID, Policy] = field(default_factory=dict)
    feature: Policy | None = None
    customer: Policy | None = None

    def _all(self) -> tuple[Policy, ...]:
        single = (self.organization, self.feature, self.customer)
        return (*(one for one in single if one is not None), *self.plans.values())

    def mode_of(self, policy: Policy, enforcement: str) -> Mode:
        """The policy's own, else that of the organization's policy, else its setting `margin_enforcement`."""
        of_organization = None if self.organization is None else self.organization.mode
        return policy.mode or of_organization or Mode(enforcement)

    def may_deny(self, enforcement: str) -> bool:
        """Whether any of them could deny, or the privilege or the setting by the organization's mode; else whoever may not
        see margins need not have them worked out."""
        return self.mode_of(_NO_TERMS, enforcement) is Mode.DENY or any(
            one.mode is Mode.DENY for one in self._all()
        )

    def maximum_age_s(self) -> int | None:
        """The strictest demand on the age of figures; None when there is none."""
        ages = [one.maximum_snapshot_age_seconds for one in self._all()]
        return min((age for age in ages if age is not None), default=None)


NO_POLICIES = Policies()
_NO_TERMS = Policy()
_NONE: Mapping[UUID, Policy] = {}


@dataclass(frozen=True, slots=True)
class SharedPolicies:
    """The policies that an organization has for more than one customer: plans' and features' by id."""

    organization: Policy | None = None
    plans: Mapping[UUID, Policy] = field(default_factory=dict)
    features: Mapping[UUID, Policy] = field(default_factory=dict)


def bearing_on(
    feature_id: UUID | None, plan_ids: Iterable[UUID], shared: SharedPolicies | None, own: Policy | None
) -> Policies:
    """The policies that bear on a question about a feature (None: about a metric) of a customer on these plans; `own` is
    the customer's."""
    if shared is None:
        return NO_POLICIES if own is None else Policies(customer=own)
    plans = {one: shared.plans[one] for one in plan_ids if one in shared.plans} if shared.plans else _NONE
    feature = None if feature_id is None else shared.features.get(feature_id)
    return Policies(shared.organization, plans, feature, own)


@dataclass(frozen=True, slots=True)
class UnitEconomics:
    """What one more unit would cost and earn, in `currency`; 0 where there is a gap. `plan_version_id` and `cost_model_id`
    are what it was worked out by: an average has no single cost model behind it."""

    currency: str
    cost_cents: Decimal
    revenue_cents: Decimal
    calculated_at: datetime
    cost_gap: Gap | None = None
    revenue_gap: Gap | None = None
    plan_version_id: UUID | None = None
    cost_model_id: UUID | None = None

    @property
    def gap(self) -> Gap | None:
        return self.revenue_gap or self.cost_gap

    @property
    def status(self) -> EconomicsStatus:
        if self.gap is None:
            return EconomicsStatus.ESTIMATED
        return EconomicsStatus.NOT_CONFIGURED if self.gap in _NOT_CONFIGURED else EconomicsStatus.UNAVAILABLE

    @property
    def margin_cents(self) -> Decimal | None:
        """None where either is not known."""
        return None if self.gap else EXACT.subtract(self.revenue_cents, self.cost_cents)

    @property
    def margin_percent(self) -> Decimal | None:
        """To 24 places; None also where nothing is earned. For showing: what is judged is never divided."""
        margin = self.margin_cents
        if margin is None or not self.revenue_cents:
            return None
        return divide(EXACT.multiply(margin, _HUNDRED), self.revenue_cents)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy said of a use's economics, and in which mode."""

    policy: Policy
    mode: Mode
    economics: UnitEconomics
    ruling: Ruling
    level: Level
    reason: str


def choose(
    policies: Policies,
    *,
    plan_id: UUID | None,
    entitled_percent: Decimal | None,
    default_percent: Decimal | None,
) -> Policy | None:
    """The policy in force: the most specific one, whole. `entitled_percent` is the privilege, `default_percent` the
    organization's setting."""
    if policies.customer is not None:
        return policies.customer
    if entitled_percent is not None:
        return _only_percent(entitled_percent)
    if policies.feature is not None:
        return policies.feature
    if plan_id is not None and (of_plan := policies.plans.get(plan_id)) is not None:
        return of_plan
    if policies.organization is not None:
        return policies.organization
    return None if default_percent is None else _only_percent(default_percent)


@lru_cache(maxsize=1024)
def _only_percent(percent: Decimal) -> Policy:
    return Policy(minimum_margin_percent=percent)


def judge(policy: Policy, economics: UnitEconomics, mode: Mode) -> Verdict:
    """What the policy says in a mode (`Policies.mode_of`). A floor that is met exactly is met; nothing is rounded or divided
    on the way."""
    shortfall = _shortfall(policy, economics)
    falls_short = shortfall is not None
    if shortfall is None and _cannot_tell(policy, economics):
        falls_short = policy.on_unavailable is OnUnavailable.DENY
        shortfall = f"economics_{economics.status}"
    ruling = _RULINGS[mode] if falls_short else Ruling.ALLOW
    return Verdict(
        policy, mode, economics, ruling, _level(economics, falls_short), shortfall or "meets_minimum"
    )


_RULINGS = {Mode.OBSERVE: Ruling.ALLOW, Mode.WARN: Ruling.WARN, Mode.DENY: Ruling.DENY}


def _cannot_tell(policy: Policy, economics: UnitEconomics) -> bool:
    """Whether a figure is missing that a term of the policy asks about."""
    by_margin = policy.minimum_margin_percent is not None or policy.minimum_margin_amount is not None
    return (by_margin and economics.margin_cents is None) or (
        policy.maximum_estimated_cost is not None and economics.cost_gap is not None
    )


def _shortfall(policy: Policy, economics: UnitEconomics) -> str | None:
    """What the use falls short of as far as is known, in a word.

    A percentage of no revenue is judged by the same product: a use that earns nothing and costs something is below any
    floor, also one below zero, and one that costs nothing either is below none.
    """
    cost, revenue, margin = economics.cost_cents, economics.revenue_cents, economics.margin_cents
    percent, amount = policy.minimum_margin_percent, policy.minimum_margin_amount
    if margin is not None:
        if percent is not None and EXACT.multiply(margin, _HUNDRED) < EXACT.multiply(percent, revenue):
            return "margin_percent_below_minimum"
        if amount is not None and margin < amount:
            return "margin_amount_below_minimum"
    maximum = policy.maximum_estimated_cost
    if maximum is not None and economics.cost_gap is None and cost > maximum:
        return "estimated_cost_above_maximum"
    return None


def _level(economics: UnitEconomics, falls_short: bool) -> Level:
    margin = economics.margin_cents
    if margin is None:
        return Level.UNKNOWN
    if margin < 0:
        return Level.NEGATIVE
    return Level.BELOW_MINIMUM if falls_short else Level.HEALTHY
