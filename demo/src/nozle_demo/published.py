"""What the merchant publishes, read back by the API: plans, limits, included credits, prices, model rates."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from nozle_demo.client import Api, segment
from nozle_demo.customers import FEATURE, METRIC, MODELS, PLANS
from nozle_demo.errors import RefusedError, UsageError
from nozle_demo.exact import Json, decimal
from nozle_demo.pricing import Charge, read_charge


@dataclass(frozen=True)
class Plan:
    """A plan as far as the demonstration uses it; `hard_limit` is None when usage is not capped."""

    code: str
    currency: str
    fee_cents: int
    hard_limit: Decimal | None
    credits: Decimal
    charge: Charge


@dataclass(frozen=True)
class ModelRate:
    """What the merchant pays for a model, in cents per 1,000,000 tokens."""

    input_cents: Decimal
    output_cents: Decimal

    def cost_cents(self, input_tokens: int, output_tokens: int) -> Decimal:
        return (input_tokens * self.input_cents + output_tokens * self.output_cents).scaleb(-6)


@dataclass(frozen=True)
class Published:
    plans: dict[str, Plan]
    rates: dict[str, ModelRate]


async def read_published(api: Api) -> Published:
    """Read plans and cost models; UsageError when the catalog is not one that the demonstration can use."""
    listed = {plan["code"] for plan in await api.get("/api/v1/plans")}
    missing = [code for code in PLANS if code not in listed]
    if missing:
        raise UsageError(
            f"the organization has no plan {', '.join(missing)}: "
            "first `nozle-server apply examples/ai-saas.yaml`"
        )
    plans = {
        code: _read_plan((await api.get(f"/core/api/v1/plans/{segment(code)}"))["plan"]) for code in PLANS
    }
    try:
        return Published(plans, _read_rates(await api.get("/api/v1/cost-models")))
    except (KeyError, TypeError) as error:
        raise RefusedError(f"the cost models cannot be read: {error!r}", 200) from None


def _read_plan(plan: Json) -> Plan:
    code, currency = str(plan["code"]), str(plan["amount_currency"])
    charges = [charge for charge in plan["charges"] if charge["billable_metric_code"] == METRIC]
    if len(charges) != 1:
        raise UsageError(
            f"the plan {code} has {len(charges)} charges on {METRIC}; the demonstration needs one"
        )
    if plan.get("pay_in_advance"):
        raise UsageError(f"the plan {code} is paid in advance; the demonstration checks one bill in arrears")
    limit = _read_limit(plan.get("entitlements") or [])
    return Plan(
        code,
        currency,
        int(plan["amount_cents"]),
        limit,
        _read_credits(plan.get("credits")),
        read_charge(charges[0], currency),
    )


def _read_limit(entitlements: Iterable[Json]) -> Decimal | None:
    """The hard limit of the chat feature: its `limit`, unless its `overage` is allowed."""
    for entitlement in entitlements:
        if entitlement["code"] == FEATURE:
            values = {item["code"]: item.get("value") for item in entitlement.get("privileges") or []}
            limit, overage = values.get("limit"), values.get("overage")
            if limit in (None, "", "null") or overage in (True, "true"):
                return None
            return decimal(limit)
    return None


def _read_credits(included: object) -> Decimal:
    """Credits granted each period, sent as a number or as an object with `amount`."""
    if isinstance(included, dict):
        included = included.get("amount")
    return Decimal(0) if included is None else decimal(included)


def _read_rates(cost_models: Iterable[Json]) -> dict[str, ModelRate]:
    rates: dict[str, ModelRate] = {}
    for cost_model in cost_models:
        if cost_model["metric_code"] == METRIC and cost_model["cost_type"] == "per_model":
            for model, rate in cost_model["model_rates"].items():
                rates[model] = ModelRate(decimal(rate["input"]), decimal(rate["output"]))
    missing = [model for model, _ in MODELS if model not in rates]
    if missing:
        raise UsageError(f"no cost model gives rates for {', '.join(missing)}")
    return rates
