"""Who makes the calls: forty customers on three plans, and which of them, with which model, made a given row.

The choice hangs on the row number alone, by a hash, so every run and every check comes to the same one.
Shares are uneven on purpose: some free customers meet their limit and some do not, some pro customers
outlive their credits.
"""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

FREE, PRO, SCALE = "free", "pro", "scale"
PLANS = (FREE, PRO, SCALE)
FEATURE = "chat"
METRIC = "llm_tokens"


@dataclass(frozen=True)
class Customer:
    """One customer of the imagined merchant; `share` is its part of all calls, in 1/10,000."""

    external_id: str
    name: str
    plan_code: str
    share: int

    @property
    def email(self) -> str:
        return f"billing@{self.external_id}.example"


def _on(plan_code: str, **shares: int) -> tuple[Customer, ...]:
    names = ((name.replace("_", " "), share) for name, share in shares.items())
    return tuple(Customer(name.lower().replace(" ", "-"), name, plan_code, share) for name, share in names)


CUSTOMERS: tuple[Customer, ...] = (
    *_on(
        FREE,
        Blue_Kettle_Coffee=150,
        Tern_and_Tide=130,
        Paperboat_Press=110,
        Alder_Street_Clinic=95,
        Juniper_Tutors=85,
        Little_Orchard=75,
        Moss_and_Fern=65,
        Corner_Frame_Shop=55,
        Second_Draft=50,
        Quiet_Garden=45,
        Sunday_Bakery=40,
        Copper_Lantern=30,
        Pebble_Toys=25,
        Old_Mill_Books=20,
        Firefly_Camp=15,
        Winter_Choir=10,
    ),
    *_on(
        PRO,
        Harbor_Legal=1050,
        Northwind_Travel=560,
        Fieldnote_Research=420,
        Brightwell_Health=350,
        Tallship_Logistics=300,
        Meridian_Realty=260,
        Cobalt_Studios=220,
        Sparrow_Support=190,
        Larkspur_Insurance=160,
        Granite_Accounting=130,
        Openhand_Nonprofit=110,
        Redwood_Recruiting=90,
        Silverline_Media=70,
        Maple_Schools=50,
        Driftwood_Hotels=25,
        Ember_Fitness=15,
    ),
    *_on(
        SCALE,
        Atlas_Marketplace=2300,
        Polaris_Bank=1000,
        Keystone_Telecom=600,
        Summit_Airlines=400,
        Evergreen_Energy=280,
        Ironbridge_Motors=200,
        Lumen_Retail=130,
        Vantage_Press=90,
    ),
)

# Model and its part of all calls, in percent.
MODELS: tuple[tuple[str, int], ...] = (("gpt-4o-mini", 50), ("gpt-4o", 30), ("claude-sonnet-4", 20))

_CUSTOMER_BOUNDS = tuple(accumulate(customer.share for customer in CUSTOMERS))
_MODEL_BOUNDS = tuple(accumulate(share for _, share in MODELS))


@cache
def assign(row: int) -> tuple[Customer, str]:
    """The customer and the model of a row."""
    digest = hashlib.blake2b(f"row {row}".encode(), digest_size=16).digest()
    customer_draw = int.from_bytes(digest[:8], "big") % _CUSTOMER_BOUNDS[-1]
    model_draw = int.from_bytes(digest[8:], "big") % _MODEL_BOUNDS[-1]
    customer = CUSTOMERS[bisect_right(_CUSTOMER_BOUNDS, customer_draw)]
    return customer, MODELS[bisect_right(_MODEL_BOUNDS, model_draw)][0]
