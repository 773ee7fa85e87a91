"""What a subscription has used: now, in past periods, by the end of the period, and in all its life.

As Lago: https://getlago.com/docs/guide/events/retrieve-usage
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from nozle_server.catalog import metric_store, plan_store
from nozle_server.catalog.charge_models import ChargeModel
from nozle_server.catalog.model import Charge, Metric, PlanVersion
from nozle_server.core.periods import Period, local_date
from nozle_server.infra.database import Tx
from nozle_server.infra.seams import Seams
from nozle_server.infra.usage_store import UsageQuery
from nozle_server.invoicing import store as invoicing_store
from nozle_server.invoicing import usage_store
from nozle_server.invoicing.line_taxes import find_line_taxes, tax_codes_of
from nozle_server.invoicing.lines import usage_window
from nozle_server.invoicing.model import Invoice, InvoiceLine, LineKind
from nozle_server.invoicing.projection import Progress, Projection, project
from nozle_server.invoicing.usage_lines import rate_usage
from nozle_server.subscriptions import store as subscriptions_store
from nozle_server.subscriptions.model import Status, Subscription
from nozle_server.taxes.apply import TaxableLine, Taxation, compute_taxes

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ChargeUsage:
    """The usage of one charge: a line for each price and group."""

    charge: Charge
    metric: Metric
    lines: tuple[InvoiceLine, ...]


@dataclass(frozen=True, slots=True)
class CurrentUsage:
    """The running period of usage as it would be invoiced now, before coupons and credits; amounts in minor units.

    `issuing_date` is the day that the period's invoice will be dated with, without grace.
    """

    subscription: Subscription
    version: PlanVersion
    period: Period
    issuing_date: date
    charges: tuple[ChargeUsage, ...]
    taxes_amount_cents: int

    @property
    def amount_cents(self) -> int:
        return sum(line.amount_cents for usage in self.charges for line in usage.lines)


@dataclass(frozen=True, slots=True)
class PastUsage:
    """A period of usage that is on an invoice."""

    invoice: Invoice
    start: datetime
    end: datetime
    charges: tuple[ChargeUsage, ...]


@dataclass(frozen=True, slots=True)
class ChargeChoice:
    """Which charges of the plan are asked for; the first that is given decides, none means all."""

    charge_id: UUID | None = None
    charge_code: str | None = None
    metric_code: str | None = None

    def of(self, version: PlanVersion) -> list[Charge]:
        return [charge for charge in version.charges if self._wants(charge)]

    def _wants(self, charge: Charge) -> bool:
        if self.charge_id is not None:
            return charge.id == self.charge_id
        if self.charge_code is not None:
            return charge.code == self.charge_code
        return self.metric_code is None or charge.metric_code == self.metric_code


ALL_CHARGES = ChargeChoice()


async def find_running(
    tx: Tx, org_id: UUID, customer_id: UUID, external_id: str, now: datetime
) -> Subscription | None:
    """The customer's subscription of that id that runs at `now`."""
    for one in await subscriptions_store.list_of_customer(tx, org_id, customer_id):
        if one.external_id == external_id and one.status is Status.ACTIVE and one.is_active_at(now):
            return one
    return None


async def current_usage(
    tx: Tx,
    seams: Seams,
    subscription: Subscription,
    *,
    now: datetime,
    apply_taxes: bool = True,
    choice: ChargeChoice = ALL_CHARGES,
    since_start: bool = False,
    wanted: Callable[[InvoiceLine], bool] | None = None,
) -> CurrentUsage:
    """The usage of the period around `now`, of charges in arrears and in advance; `since_start` of the subscription's
    whole life up to the period's end, priced as one. `wanted` leaves lines out."""
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    period = subscription.period_at(now, version.usage_interval)
    if since_start:
        period = Period(subscription.started_at, period.end)
    charges = choice.of(version)
    # What is paid in advance is shown with the rest, priced as a whole.
    as_a_whole = [replace(charge, pay_in_advance=False) for charge in charges]
    rated = await rate_usage(tx, seams, subscription, version, period, now, charges=as_a_whole)
    lines = [
        line
        for line in rated
        if line.true_up_of is None  # a minimum is owed when the period ends
        and (wanted is None or wanted(line))
    ]
    taxes = (
        (await tax_usage(tx, subscription.customer_id, version, lines)).taxes_amount_cents
        if apply_taxes
        else 0
    )
    return CurrentUsage(
        subscription=subscription,
        version=version,
        period=period,
        issuing_date=local_date(period.end, subscription.timezone),
        charges=await _by_charge(tx, version, charges, lines),
        taxes_amount_cents=taxes,
    )


async def used_now(
    tx: Tx, seams: Seams, subscription: Subscription, *, metric_code: str, now: datetime
) -> Decimal:
    """Units of a metric in the period around `now`, whether or not the plan prices it; 0 when the subscription does not
    run."""
    metric = await metric_store.find_metric(tx, subscription.org_id, metric_code)
    if metric is None or subscription.status is not Status.ACTIVE or not subscription.is_active_at(now):
        return Decimal(0)
    version = await plan_store.get_plan_version(tx, subscription.org_id, subscription.plan_version_id)
    period = subscription.period_at(now, version.usage_interval)
    earlier: Sequence[UUID] = ()
    if metric.recurring:
        chains = await subscriptions_store.chains(tx, subscription.org_id, [subscription.id])
        earlier = chains.get(subscription.id, ())
    query = UsageQuery(
        metric.id,
        metric.aggregation,
        (usage_window(subscription, period, earlier),),
        recurring=metric.recurring,
    )
    rows = await seams.usage_store.usage(tx, subscription.org_id, query)
    return rows[0].units if rows else Decimal(0)


async def tax_usage(
    tx: Tx, customer_id: UUID, version: PlanVersion, usage: Sequence[InvoiceLine]
) -> Taxation:
    """The taxes of usage as an invoice would have them, without coupons."""
    codes = [tax_codes_of(version, line) for line in usage]
    taxes = await find_line_taxes(tx, version.org_id, customer_id, codes)
    return compute_taxes(
        [TaxableLine(Decimal(line.amount_cents), paid) for line, paid in zip(usage, taxes, strict=True)]
    )


async def past_usage(
    tx: Tx,
    org_id: UUID,
    customer_id: UUID,
    external_subscription_id: str,
    *,
    metric_id: UUID | None,
    limit: int,
    offset: int,
) -> tuple[list[PastUsage], int]:
    """A page of the subscription's invoiced periods, newest first, and how many there are; with `metric_id` of that
    metric's charges alone."""
    periods, total = await usage_store.list_past_periods(
        tx, org_id, customer_id, external_subscription_id, limit=limit, offset=offset
    )
    invoices = await invoicing_store.get_many(tx, org_id, [period.invoice_id for period in periods])
    found = []
    for period in periods:
        invoice = invoices[period.invoice_id]
        lines = [
            line
            for line in invoice.lines
            if line.kind is LineKind.CHARGE
            and line.subscription_id == period.subscription_id
            and line.adjusts_invoice_id is None
            and metric_id in (None, line.metric_id)
        ]
        charges: list[ChargeUsage] = []
        for version_id in dict.fromkeys(line.plan_version_id for line in lines):
            assert version_id is not None, "usage is priced by a version of a plan"
            version = await plan_store.get_plan_version(tx, org_id, version_id)
            charges += await _by_charge(tx, version, version.charges, lines, only_used=True)
        found.append(PastUsage(invoice, period.start, period.end, tuple(charges)))
    return found, total


def project_usage(usage: CurrentUsage, now: datetime) -> Mapping[UUID, Projection]:
    """What each line of the current usage will come to when the period ends, by the line's id."""
    zone = usage.subscription.timezone
    first = local_date(usage.period.start, zone)
    progress = Progress(
        days=(local_date(now, zone) - first).days + 1,
        whole_days=(local_date(usage.period.end - _TICK, zone) - first).days + 1,
    )
    projections = {}
    for one in usage.charges:
        models: dict[UUID | None, ChargeModel] = {each.id: each.model for each in one.charge.filters}
        models[None] = one.charge.model
        for line in one.lines:
            projections[line.id] = project(
                models[line.charge_filter_id],
                units=line.units,
                events_count=line.events_count,
                exact_amount_cents=line.exact_amount_cents,
                currency=line.currency,
                progress=progress,
                carried_over=one.metric.recurring,
            )
    return projections


async def _by_charge(
    tx: Tx,
    version: PlanVersion,
    charges: Sequence[Charge],
    lines: Sequence[InvoiceLine],
    *,
    only_used: bool = False,
) -> tuple[ChargeUsage, ...]:
    """The lines by charge, in order of the metrics' names."""
    by_charge: dict[UUID | None, list[InvoiceLine]] = defaultdict(list)
    for line in lines:
        by_charge[line.charge_id].append(line)
    usages = [
        ChargeUsage(
            charge,
            await metric_store.get_metric_by_id(tx, version.org_id, charge.metric_id),
            tuple(by_charge[charge.id]),
        )
        for charge in charges
        if by_charge[charge.id] or not only_used
    ]
    return tuple(sorted(usages, key=lambda one: (one.metric.name.lower(), one.metric.code)))
