"""Dynamic: each event says what it costs, in `precise_total_amount_cents`; without units nothing is due.

https://getlago.com/docs/guide/plans/charges/charge-models/dynamic
"""

from decimal import Decimal

from nozle_server.rating.lines import Step, Usage


def steps(usage: Usage) -> tuple[Step, ...]:
    """One step of all the units, whose amount is not the price of a unit: units may cost differently."""
    if not usage.units:
        return ()
    return (Step("dynamic", usage.units, Decimal(0), usage.amount_cents, usage.amount_cents),)
