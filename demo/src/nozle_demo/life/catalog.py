"""What is sold in the life. The same prices go to the server as text and into our own arithmetic as numbers."""

from dataclasses import dataclass
from decimal import Decimal

from nozle_demo.client import Api, segment
from nozle_demo.exact import Json
from nozle_demo.pricing import Charge, read_charge

CURRENCY = "USD"
CALLS, PAGES, FEATURE = "life-calls", "life-pages", "life-assistant"
VAT, TEN_PERCENT, FIVE_OFF, SETUP = "life-vat", "life-ten-percent", "life-five-off", "life-setup"
VAT_PERCENT, COUPON_PERCENT, COUPON_MONTHS = Decimal(20), Decimal(10), 3
FIVE_OFF_CENTS, SETUP_CENTS = 500, 12_000


@dataclass(frozen=True)
class Package:
    """`free` units, then `price_cents` for each begun package of `size`; at least `minimum_cents` a month."""

    size: int
    free: int
    price_cents: int
    minimum_cents: int = 0

    def amount_cents(self, units: int) -> int:
        return -(-max(units - self.free, 0) // self.size) * self.price_cents


@dataclass(frozen=True)
class LifePlan:
    """A plan paid in advance; `tiers` of calls as (first, last, price of one)."""

    code: str
    name: str
    fee_cents: int
    tiers: tuple[tuple[int, int | None, str], ...] = ()
    package: Package | None = None
    trial_days: int = 0

    def calls_cents(self, calls: int) -> Decimal:
        """The exact price of calls."""
        return _charge_of(self).base.amount_cents(Decimal(calls))

    def pages_cents(self, pages: int) -> Decimal:
        """The price of pages, without what may be missing of their minimum."""
        return Decimal(self.package.amount_cents(pages) if self.package else 0)

    def missing_cents(self, pages: int) -> Decimal:
        """What the price of pages misses of their minimum."""
        least = self.package.minimum_cents if self.package else 0
        return max(least - self.pages_cents(pages), Decimal(0))

    def to_json(self) -> Json:
        charges = [_calls_json(self)] if self.tiers else []
        if self.package:
            charges.append(_package_json(self.package))
        return {
            "code": self.code,
            "name": self.name,
            "interval": "monthly",
            "amount_cents": self.fee_cents,
            "amount_currency": CURRENCY,
            "pay_in_advance": True,
            "trial_period": self.trial_days,
            "charges": charges,
        }


STARTER = LifePlan("life-starter", "Starter", 2_900, ((0, 100, "0.10"), (101, None, "0.05")))
PRO = LifePlan("life-pro", "Pro", 9_900, ((0, 100, "0.05"), (101, None, "0.02")), Package(1_000, 500, 200))
TEAM = LifePlan("life-team", "Team", 6_000, (), Package(1_000, 500, 200, 1_000), trial_days=10)
PLANS = (STARTER, PRO, TEAM)


def _calls_json(plan: LifePlan) -> Json:
    ranges = [
        {"from_value": first, "to_value": last, "per_unit_amount": price, "flat_amount": "0"}
        for first, last, price in plan.tiers
    ]
    return {
        "billable_metric_code": CALLS,
        "charge_model": "graduated",
        "properties": {"graduated_ranges": ranges},
    }


def _package_json(package: Package) -> Json:
    amount = Decimal(package.price_cents).scaleb(-2)
    return {
        "billable_metric_code": PAGES,
        "charge_model": "package",
        "min_amount_cents": package.minimum_cents,
        "properties": {
            "amount": str(amount),
            "package_size": package.size,
            "free_units": package.free,
        },
    }


def _charge_of(plan: LifePlan) -> Charge:
    return read_charge(_calls_json(plan), CURRENCY)


async def publish(api: Api) -> None:
    """Make what is not there yet. A code decides what is there, so that this may be repeated at any time."""
    await _make(api, "billable_metrics", "billable_metric", _metric(CALLS, "API calls", "count_agg"))
    await _make(
        api,
        "billable_metrics",
        "billable_metric",
        _metric(PAGES, "Pages read", "sum_agg", field_name="pages"),
    )
    await _make(api, "features", "feature", {"code": FEATURE, "name": "Assistant"})
    for plan in PLANS:
        await _make(api, "plans", "plan", plan.to_json())
        # Also after an interruption between the two: the same entitlements again change nothing.
        await api.post(
            f"/core/api/v1/plans/{segment(plan.code)}/entitlements", {"entitlements": {FEATURE: {}}}
        )
    await _make(api, "taxes", "tax", {"code": VAT, "name": "VAT", "rate": str(VAT_PERCENT)})
    percent = {"coupon_type": "percentage", "percentage_rate": str(COUPON_PERCENT)}
    months = {"frequency": "recurring", "frequency_duration": COUPON_MONTHS}
    await _make(api, "coupons", "coupon", _coupon(TEN_PERCENT, "10 % for three months") | percent | months)
    fixed = {"coupon_type": "fixed_amount", "amount_cents": FIVE_OFF_CENTS, "amount_currency": CURRENCY}
    await _make(api, "coupons", "coupon", _coupon(FIVE_OFF, "5.00 off, once") | fixed | {"frequency": "once"})
    setup = {"code": SETUP, "name": "Setup", "amount_cents": SETUP_CENTS, "amount_currency": CURRENCY}
    await _make(api, "add_ons", "add_on", setup)


def _metric(code: str, name: str, how: str, **more: str) -> Json:
    return {"code": code, "name": name, "aggregation_type": how, **more}


def _coupon(code: str, name: str) -> Json:
    return {"code": code, "name": name, "expiration": "no_expiration"}


async def _make(api: Api, path: str, envelope: str, fields: Json) -> None:
    if await api.find(f"/core/api/v1/{path}/{segment(str(fields['code']))}") is None:
        await api.post(f"/core/api/v1/{path}", {envelope: fields})
