"""What every invoice of the life must say, worked out from the prices, the calendar and the calls by code of our own."""

from dataclasses import dataclass
from decimal import Decimal, localcontext

from nozle_demo.life import story
from nozle_demo.life.catalog import (
    COUPON_PERCENT,
    FIVE_OFF_CENTS,
    PRO,
    SETUP_CENTS,
    STARTER,
    TEAM,
    VAT_PERCENT,
    LifePlan,
)
from nozle_demo.life.months import Months
from nozle_demo.pricing import round_cents

_DIGITS = 60
_ZERO = Decimal(0)


@dataclass(frozen=True)
class Bill:
    """An invoice: exact amounts of its fees, then what comes off and on. Everything in cents."""

    fees: tuple[Decimal, ...]
    coupon_percent: Decimal = _ZERO
    coupon_cents: int = 0
    tax_percent: Decimal = _ZERO
    credit_cents: int = 0
    wallet_cents: int = 0

    @property
    def fees_cents(self) -> int:
        return sum(map(round_cents, self.fees))

    @property
    def coupons_cents(self) -> int:
        return self.coupon_cents + round_cents(self.fees_cents * self.coupon_percent / 100)

    @property
    def taxes_cents(self) -> int:
        return round_cents((self.fees_cents - self.coupons_cents) * self.tax_percent / 100)

    @property
    def total_cents(self) -> int:
        taxed = self.fees_cents - self.coupons_cents + self.taxes_cents
        return taxed - self.credit_cents - self.wallet_cents


@dataclass(frozen=True)
class LifeExpected:
    """Bills by customer, oldest first, and what of the fees paid in advance was for days used and not used."""

    bills: dict[str, tuple[Bill, ...]]
    ada_kept_cents: int
    ada_credited_cents: int
    cleo_kept_cents: int
    late_cents: Decimal


def work_out(months: Months) -> LifeExpected:
    with localcontext() as context:
        context.prec = _DIGITS
        return _work_out(months)


def part_of_fee(plan: LifePlan, days: int, of_days: int) -> Decimal:
    """The exact fee for some days of a month."""
    return Decimal(plan.fee_cents) * days / of_days


def _work_out(months: Months) -> LifeExpected:
    days = months.days(0)
    # The day of an upgrade belongs to the new plan, the day of a cancellation was used.
    on_pro = days - story.UPGRADE_DAY + 1
    credited = round_cents(part_of_fee(STARTER, on_pro, days))
    late = STARTER.calls_cents(story.FINN_CALLS + story.FINN_LATE_CALLS) - STARTER.calls_cents(
        story.FINN_CALLS
    )
    return LifeExpected(
        {
            story.ADA: _ada(on_pro, days, credited),
            story.BERT: (_fee(STARTER), Bill((STARTER.calls_cents(story.BERT_CALLS),))),
            story.CLEO: (_fee(PRO), Bill((PRO.calls_cents(story.CLEO_CALLS),))),
            story.DORA: _dora(),
            story.EMIL: _emil(days),
            story.FINN: _finn(late),
        },
        ada_kept_cents=round_cents(part_of_fee(STARTER, days - on_pro, days)),
        ada_credited_cents=credited,
        cleo_kept_cents=round_cents(part_of_fee(PRO, story.CANCEL_DAY, days)),
        late_cents=late,
    )


def _fee(plan: LifePlan) -> Bill:
    return Bill((Decimal(plan.fee_cents),))


def _ada(on_pro: int, days: int, credited: int) -> tuple[Bill, ...]:
    """Starter; Pro for the rest of the month; Pro; the usage on Pro and Starter again."""
    rest = part_of_fee(PRO, on_pro, days)
    return (
        _fee(STARTER),
        Bill((STARTER.calls_cents(story.ADA_ON_STARTER), rest), credit_cents=credited),
        Bill((Decimal(PRO.fee_cents), PRO.calls_cents(story.ADA_ON_PRO))),
        Bill((PRO.calls_cents(story.ADA_NEXT_MONTH), Decimal(STARTER.fee_cents))),
    )


def _dora() -> tuple[Bill, ...]:
    """Three months with a coupon, and what was sold once, which coupons do not reduce. All with tax."""
    fee = Decimal(PRO.fee_cents)
    used = (fee, PRO.calls_cents(story.DORA_CALLS), PRO.pages_cents(story.DORA_PAGES))
    return (
        Bill((fee,), coupon_percent=COUPON_PERCENT, tax_percent=VAT_PERCENT),
        Bill(used, coupon_percent=COUPON_PERCENT, tax_percent=VAT_PERCENT),
        Bill((Decimal(SETUP_CENTS),), tax_percent=VAT_PERCENT),
        Bill((fee,), coupon_percent=COUPON_PERCENT, tax_percent=VAT_PERCENT),
    )


def _emil(days: int) -> tuple[Bill, ...]:
    """The wallet's credit is bought; it then pays the month after the trial and what it can of the two after it."""
    first = part_of_fee(TEAM, days - TEAM.trial_days, days)
    fees = ((first,), _team(story.EMIL_PAGES), _team(story.EMIL_NEXT_PAGES))
    bills, left = [Bill((Decimal(story.TOP_UP_CENTS),))], story.TOP_UP_CENTS
    for number, lines in enumerate(fees):
        if number == len(fees) - 1:
            left += story.GIFT_CENTS
        paid = min(left, Bill(lines).total_cents)
        left -= paid
        bills.append(Bill(lines, wallet_cents=paid))
    return tuple(bills)


def _team(pages: int) -> tuple[Decimal, ...]:
    """The fee, the pages, and what is missing of their minimum."""
    return Decimal(TEAM.fee_cents), TEAM.pages_cents(pages), TEAM.missing_cents(pages)


def _finn(late: Decimal) -> tuple[Bill, ...]:
    fee = Decimal(STARTER.fee_cents)
    return (
        Bill((fee,), coupon_cents=FIVE_OFF_CENTS),
        Bill((fee, STARTER.calls_cents(story.FINN_CALLS))),
        Bill((fee, late)),
    )
