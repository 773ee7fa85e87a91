"""Which margin policy is in force, and what it makes of a use: tables and laws, without a database."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from nozle_server.catalog.charge_models import Dynamic, Standard
from nozle_server.entitlements.decision import decide
from nozle_server.entitlements.model import Decision, Facts, PlanRight, Reason, SubscriptionFacts
from nozle_server.entitlements.policy import (
    NO_POLICIES,
    Gap,
    Level,
    Mode,
    OnUnavailable,
    Policies,
    Policy,
    Ruling,
    SharedPolicies,
    UnitEconomics,
    bearing_on,
    choose,
    judge,
)
from nozle_server.subscriptions.model import Status

D = Decimal
NOW = datetime(2026, 1, 15, tzinfo=UTC)
PLAN, OTHER_PLAN = UUID(int=1), UUID(int=2)


def a_policy(percent: str | None = None, **more: object) -> Policy:
    return replace(
        Policy(minimum_margin_percent=None if percent is None else D(percent)),
        **more,  # type: ignore[arg-type]
    )


def economics(cost: str, revenue: str, **more: object) -> UnitEconomics:
    made = UnitEconomics("USD", D(cost), D(revenue), NOW)
    return replace(made, **more)  # type: ignore[arg-type]


OF_CUSTOMER, OF_FEATURE, OF_PLAN, OF_ORGANIZATION = (a_policy(str(n)) for n in (1, 2, 3, 4))


def the_one_in_force(
    policies: Policies, entitled: str | None = None, default: str | None = None
) -> str | None:
    """The percentage of the policy that is chosen."""
    chosen = choose(
        policies,
        plan_id=PLAN,
        entitled_percent=None if entitled is None else D(entitled),
        default_percent=None if default is None else D(default),
    )
    return None if chosen is None else str(chosen.minimum_margin_percent)


def test_the_most_specific_policy_is_in_force() -> None:
    """Customer, then the plan's entitlement, then feature, plan, organization, and last the setting."""
    policies = Policies(OF_ORGANIZATION, {PLAN: OF_PLAN}, OF_FEATURE, OF_CUSTOMER)
    assert the_one_in_force(policies, "50", "60") == "1"
    policies = replace(policies, customer=None)
    assert the_one_in_force(policies, "50", "60") == "50"
    assert the_one_in_force(policies, None, "60") == "2"
    policies = replace(policies, feature=None)
    assert the_one_in_force(policies, None, "60") == "3"
    assert the_one_in_force(replace(policies, plans={OTHER_PLAN: OF_PLAN}), None, "60") == "4"
    assert the_one_in_force(NO_POLICIES, None, "60") == "60"
    assert the_one_in_force(NO_POLICIES) is None


def test_a_policy_is_taken_whole() -> None:
    """A customer's ceiling on costs does not bring the organization's percentage along."""
    own = Policy(maximum_estimated_cost=D(5))
    chosen = choose(
        Policies(OF_ORGANIZATION, customer=own), plan_id=PLAN, entitled_percent=D(99), default_percent=D(99)
    )
    assert chosen is own


@pytest.mark.parametrize(
    ("policy", "cost", "revenue", "reason", "level"),
    [
        (a_policy("50"), "1", "2", "meets_minimum", Level.HEALTHY),
        (a_policy("50"), "1.000000000001", "2", "margin_percent_below_minimum", Level.BELOW_MINIMUM),
        (a_policy("50.000000000001"), "1", "2", "margin_percent_below_minimum", Level.BELOW_MINIMUM),
        (a_policy("100"), "0", "2", "meets_minimum", Level.HEALTHY),
        (a_policy("-50"), "3", "2", "meets_minimum", Level.NEGATIVE),
        (a_policy("-50"), "3.1", "2", "margin_percent_below_minimum", Level.NEGATIVE),
        (a_policy("0"), "1", "0", "margin_percent_below_minimum", Level.NEGATIVE),
        (a_policy("-1000"), "1", "0", "margin_percent_below_minimum", Level.NEGATIVE),
        (a_policy("100"), "0", "0", "meets_minimum", Level.HEALTHY),
        (a_policy(minimum_margin_amount=D(1)), "1", "2", "meets_minimum", Level.HEALTHY),
        (
            a_policy(minimum_margin_amount=D("1.01")),
            "1",
            "2",
            "margin_amount_below_minimum",
            Level.BELOW_MINIMUM,
        ),
        (a_policy(maximum_estimated_cost=D(1)), "1", "2", "meets_minimum", Level.HEALTHY),
        (
            a_policy(maximum_estimated_cost=D("0.99")),
            "1",
            "2",
            "estimated_cost_above_maximum",
            Level.BELOW_MINIMUM,
        ),
        (a_policy("10", maximum_estimated_cost=D(3)), "4", "100", "estimated_cost_above_maximum", None),
    ],
)
def test_floors_and_ceilings(
    policy: Policy, cost: str, revenue: str, reason: str, level: Level | None
) -> None:
    """What is met exactly is met; without revenue any loss is below any floor, and no loss is below none."""
    verdict = judge(policy, economics(cost, revenue), Mode.DENY)
    assert verdict.reason == reason
    assert verdict.ruling is (Ruling.ALLOW if reason == "meets_minimum" else Ruling.DENY)
    assert level is None or verdict.level is level


@pytest.mark.parametrize(
    ("of_policy", "of_organizations_policy", "setting", "mode"),
    [
        (None, None, "observe", Mode.OBSERVE),
        (None, None, "warn", Mode.WARN),
        (None, None, "deny", Mode.DENY),
        (None, Mode.DENY, "observe", Mode.DENY),
        (None, Mode.WARN, "deny", Mode.WARN),
        (Mode.OBSERVE, Mode.DENY, "deny", Mode.OBSERVE),
        (Mode.DENY, Mode.OBSERVE, "observe", Mode.DENY),
    ],
)
def test_a_policys_mode_goes_before_the_organizations(
    of_policy: Mode | None, of_organizations_policy: Mode | None, setting: str, mode: Mode
) -> None:
    own = a_policy("50", mode=of_policy)
    policies = Policies(a_policy("1", mode=of_organizations_policy), customer=own)
    assert policies.mode_of(own, setting) is mode
    assert policies.may_deny(setting) is (Mode.DENY in (mode, of_organizations_policy))


@pytest.mark.parametrize(("mode", "ruling"), [("observe", "allow"), ("warn", "warn"), ("deny", "deny")])
def test_what_follows_from_too_little_is_the_modes(mode: str, ruling: str) -> None:
    assert judge(a_policy("50"), economics("2", "2"), Mode(mode)).ruling is Ruling(ruling)


@pytest.mark.parametrize(
    ("gaps", "status", "on_unavailable", "ruling"),
    [
        ({"cost_gap": Gap.NO_COST_MODEL}, "not_configured", OnUnavailable.ALLOW, Ruling.ALLOW),
        ({"cost_gap": Gap.NO_COST_MODEL}, "not_configured", OnUnavailable.DENY, Ruling.DENY),
        ({"cost_gap": Gap.NO_USAGE_TO_AVERAGE}, "unavailable", OnUnavailable.DENY, Ruling.DENY),
        ({"revenue_gap": Gap.NO_PRICE}, "not_configured", OnUnavailable.ALLOW, Ruling.ALLOW),
        ({"revenue_gap": Gap.PRICED_BY_EVENTS}, "unavailable", OnUnavailable.DENY, Ruling.DENY),
    ],
)
def test_what_is_not_known_counts_as_the_policy_says(
    gaps: dict[str, Gap], status: str, on_unavailable: OnUnavailable, ruling: Ruling
) -> None:
    verdict = judge(a_policy("50", on_unavailable=on_unavailable), economics("0", "0", **gaps), Mode.DENY)
    assert (verdict.ruling, verdict.reason, verdict.level) == (ruling, f"economics_{status}", Level.UNKNOWN)
    assert verdict.economics.margin_cents is verdict.economics.margin_percent is None


def test_on_unavailable_denies_only_where_the_mode_does() -> None:
    """Decision 20: nothing but the mode `deny` ever denies."""
    unknown = economics("0", "0", cost_gap=Gap.NO_COST_MODEL)
    policy = a_policy("50", on_unavailable=OnUnavailable.DENY)
    assert [judge(policy, unknown, mode).ruling for mode in Mode] == [Ruling.ALLOW, Ruling.WARN, Ruling.DENY]


def test_a_ceiling_on_costs_is_judged_without_a_price() -> None:
    """And a cost that is known to be too high is too high, whatever else is not known."""
    no_price = economics("5", "0", revenue_gap=Gap.NO_PRICE)
    only_cost = Policy(maximum_estimated_cost=D(5))
    assert judge(only_cost, no_price, Mode.DENY).reason == "meets_minimum"
    assert judge(replace(only_cost, maximum_estimated_cost=D(4)), no_price, Mode.DENY).ruling is Ruling.DENY
    both = replace(only_cost, minimum_margin_percent=D(10))
    assert judge(both, no_price, Mode.DENY).reason == "economics_not_configured"
    unknown_cost = economics("0", "5", cost_gap=Gap.NO_COST_MODEL)
    assert judge(only_cost, unknown_cost, Mode.DENY).reason == "economics_not_configured"


@pytest.mark.parametrize(
    ("policies", "enforcement", "may"),
    [
        (NO_POLICIES, "observe", False),
        (NO_POLICIES, "deny", True),
        (Policies(OF_ORGANIZATION), "warn", False),
        (Policies(OF_ORGANIZATION), "deny", True),
        (Policies(replace(OF_ORGANIZATION, mode=Mode.DENY)), "observe", True),
        (Policies(plans={PLAN: a_policy("1", mode=Mode.DENY)}), "observe", True),
        (Policies(feature=a_policy("1", mode=Mode.DENY)), "observe", True),
        (Policies(customer=a_policy("1", mode=Mode.WARN)), "observe", False),
    ],
)
def test_whether_margins_must_be_worked_out_for_those_who_may_not_see_them(
    policies: Policies, enforcement: str, may: bool
) -> None:
    assert policies.may_deny(enforcement) is may


def test_the_strictest_demand_on_age_counts() -> None:
    ages = (None, 30, 5)
    organization, feature, customer = (a_policy("1", maximum_snapshot_age_seconds=age) for age in ages)
    assert Policies(organization, feature=feature, customer=customer).maximum_age_s() == 5
    assert Policies(organization).maximum_age_s() is None


def test_only_what_bears_on_the_question_counts() -> None:
    """A plan that the customer is not on, or another feature, makes nobody work out margins or read figures anew."""
    strict = a_policy("1", mode=Mode.DENY, maximum_snapshot_age_seconds=0)
    shared = SharedPolicies(OF_ORGANIZATION, {PLAN: OF_PLAN, OTHER_PLAN: strict}, {OTHER_PLAN: strict})
    found = bearing_on(PLAN, [PLAN], shared, None)
    assert found == Policies(OF_ORGANIZATION, {PLAN: OF_PLAN})
    assert not found.may_deny("observe")
    assert found.maximum_age_s() is None
    assert bearing_on(None, [OTHER_PLAN], shared, None).may_deny("observe")
    assert bearing_on(OTHER_PLAN, [], shared, OF_CUSTOMER) == Policies(
        OF_ORGANIZATION, feature=strict, customer=OF_CUSTOMER
    )
    assert bearing_on(PLAN, [PLAN], None, None) is NO_POLICIES


amounts = st.decimals(min_value=0, max_value=10**12, places=12)
percents = st.decimals(min_value=-(10**6), max_value=100, places=12)


@given(cost=amounts, revenue=amounts, percent=percents)
def test_the_floor_is_exact(cost: Decimal, revenue: Decimal, percent: Decimal) -> None:
    """As in fractions: below the floor is exactly where margin / revenue is less than it."""
    verdict = judge(
        Policy(minimum_margin_percent=percent), UnitEconomics("USD", cost, revenue, NOW), Mode.DENY
    )
    margin = Fraction(revenue) - Fraction(cost)
    below = margin / Fraction(revenue) * 100 < Fraction(percent) if revenue else margin < 0
    assert (verdict.ruling is Ruling.DENY) is below


@given(cost=amounts, dearer=amounts, revenue=amounts, percent=percents, amount=amounts, maximum=amounts)
def test_a_dearer_use_is_never_judged_more_kindly(
    cost: Decimal, dearer: Decimal, revenue: Decimal, percent: Decimal, amount: Decimal, maximum: Decimal
) -> None:
    policy = Policy(percent, amount, maximum)
    low, high = sorted((cost, dearer))
    cheap, dear = (judge(policy, UnitEconomics("USD", one, revenue, NOW), Mode.DENY) for one in (low, high))
    assert not (cheap.ruling is Ruling.DENY and dear.ruling is Ruling.ALLOW)


# In the decision.


def decision(
    *,
    used: str = "0",
    limit: str | None = None,
    mode: str = "deny",
    price: object = None,
    overage: bool = False,
    **facts: object,
) -> Decision:
    subscription = SubscriptionFacts(
        status=Status.ACTIVE,
        started_at=NOW,
        ends_at=None,
        right=PlanRight(metered=True, limit=None if limit is None else D(limit), overage=overage),
        used=D(used),
        price=Standard(amount=D("0.02")) if price is None else price,  # type: ignore[arg-type]
        priced_units=D(used),
        currency="USD",
        plan_id=PLAN,
    )
    made = Facts(NOW, (subscription,), D(1), D(60), mode)
    return decide(structs.replace(made, **facts))


def test_a_margin_below_the_floor_is_denied() -> None:
    denied = decision()
    assert (denied.allowed, denied.reason) == (False, Reason.MARGIN_BELOW_MINIMUM)
    assert decision(mode="warn").allowed
    assert decision(mode="observe").allowed
    assert decision(min_margin_percent=D(50)).allowed


def test_another_denial_keeps_its_reason() -> None:
    """A limit that is used up is what the customer can do something about; what the policy says is still told."""
    denied = decision(used="10", limit="10")
    assert (denied.allowed, denied.reason) == (False, Reason.LIMIT_EXCEEDED)
    assert denied.margin is not None
    assert denied.margin.ruling is Ruling.DENY


def test_a_denial_by_policy_keeps_what_is_said_of_the_limit() -> None:
    over = decision(used="11", limit="10", overage=True)
    assert (over.reason, over.overage) == (Reason.MARGIN_BELOW_MINIMUM, True)
    assert (over.used, over.limit, over.remaining) == (11, 10, 0)


def test_without_a_policy_nothing_is_judged() -> None:
    assert decision(min_margin_percent=None).margin is None


def test_a_plans_policy_is_for_that_plan() -> None:
    for_another = Policies(plans={OTHER_PLAN: a_policy("99")})
    assert decision(policies=for_another, min_margin_percent=None).margin is None
    assert not decision(policies=Policies(plans={PLAN: a_policy("99")}), min_margin_percent=None).allowed


def test_a_price_that_comes_with_each_event_is_not_known_before() -> None:
    judged = decision(price=Dynamic())
    assert judged.allowed
    assert judged.margin is not None
    assert judged.margin.economics.gap is Gap.PRICED_BY_EVENTS
