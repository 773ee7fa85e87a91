from decimal import Decimal

import pytest

from nozle_server.catalog.charge_models import Dynamic
from nozle_server.rating.rate import Usage, marginal_price_cents, rate


@pytest.mark.parametrize(
    ("units", "sent", "exact", "settled"),
    [
        ("0", "0", "0", 0),
        ("0", "12.5", "0", 0),  # as Lago: no units, no amount
        ("3", "12.5", "12.5", 13),
        ("3", "0.000000000001", "0.000000000001", 0),
        ("1", "-5", "0", 0),
        ("-1", "5", "0", 0),
    ],
)
def test_a_period_costs_what_its_events_say(units, sent, exact, settled):
    for currency in ("JPY", "USD", "KWD"):  # the events name minor units already
        line = rate(Dynamic(), Usage(Decimal(units), 2, amount_cents=Decimal(sent)), currency=currency)
        assert (line.exact_amount_cents, line.amount_cents) == (Decimal(exact), settled)


def test_nobody_knows_the_next_price():
    assert marginal_price_cents(Dynamic(), Decimal(5), currency="USD") == 0
