"""From JSON and query strings to Structs: aliases, what is told about a fault, and what is never repeated."""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
import pytest

from nozle_server.api.endpoint import Amount
from nozle_server.api.parse import BodyReader, QueryReader
from nozle_server.core.errors import InvalidInput

CANARY = "canary-7f3a"


class Inner(msgspec.Struct):
    amount: Amount
    model: str | None = None


class Order(msgspec.Struct):
    customer_id: Annotated[str, msgspec.Meta(min_length=1)]
    credits: Amount
    count: Annotated[int, msgspec.Meta(ge=1)] = 1
    interval: Literal["monthly", "yearly"] = "monthly"
    lines: list[Inner] = []
    anything: object = None


class Plan(msgspec.Struct):
    code: str
    amount: Amount


class PlanEnvelope(msgspec.Struct):
    plan: Plan


class Search(msgspec.Struct):
    customer_id: str
    status: list[str] = []
    page: int = 1
    since: Amount | None = None


ORDERS = BodyReader(Order, {"customerId": "customer_id", "external_customer_id": "customer_id"})
SEARCHES = QueryReader(Search, {"customerId": "customer_id", "statuses": "status"})


def test_reads_amounts_aliases_and_free_form_values() -> None:
    order = ORDERS.read({"customerId": "acme", "credits": "0.10", "anything": {"x": Decimal("1.5")}})
    assert order == Order("acme", Amount("0.10"), anything={"x": Decimal("1.5")})
    assert type(order.credits) is Amount


def test_unknown_fields_have_no_effect() -> None:
    order = ORDERS.read({"customer_id": "acme", "credits": 1, "is_admin": True, "balance": 10**9})
    assert order == Order("acme", Amount(1))


def test_two_names_may_agree_but_not_differ() -> None:
    body = {"customer_id": "acme", "customerId": "acme", "credits": 1}
    assert ORDERS.read(dict(body)).customer_id == "acme"
    with pytest.raises(InvalidInput) as refused:
        ORDERS.read(body | {"external_customer_id": "other"})
    assert refused.value.details == {"customer_id": ["given_twice"]}


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"customer_id": None}, "customer_id", "value_is_mandatory"),
        ({"customer_id": ""}, "customer_id", "value_is_mandatory"),
        ({"customer_id": 5}, "customer_id", "invalid_type"),
        ({"customer_id": [CANARY]}, "customer_id", "invalid_type"),
        ({"credits": None}, "credits", "value_is_mandatory"),
        ({"credits": True}, "credits", "invalid_amount"),
        ({"credits": CANARY}, "credits", "invalid_amount"),
        ({"credits": "NaN"}, "credits", "invalid_amount"),
        ({"credits": "1e3"}, "credits", "invalid_amount"),
        ({"credits": {}}, "credits", "invalid_amount"),
        ({"credits": 10**18}, "credits", "value_is_out_of_range"),
        ({"credits": "0." + "1" * 13}, "credits", "invalid_amount"),
        ({"count": 0}, "count", "value_is_out_of_range"),
        ({"count": Decimal("1.5")}, "count", "invalid_type"),
        ({"count": True}, "count", "invalid_type"),
        ({"count": None}, "count", "value_is_mandatory"),
        ({"interval": CANARY}, "interval", "value_is_invalid"),
        ({"lines": {}}, "lines", "invalid_type"),
        ({"lines": [{}]}, "lines[0].amount", "value_is_mandatory"),
        ({"lines": [{"amount": 1}, {"amount": CANARY}]}, "lines[1].amount", "invalid_amount"),
        ({"lines": [5]}, "lines[0]", "invalid_type"),
    ],
)
def test_a_fault_names_its_field_and_repeats_nothing(
    change: dict[str, object], field: str, code: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        ORDERS.read({"customer_id": "acme", "credits": 1} | change)
    assert refused.value.details == {field: [code]}
    assert refused.value.message.startswith(field)
    assert CANARY not in refused.value.message


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidInput) as refused:
        ORDERS.read({"credits": 1})
    assert refused.value.message == "customer_id is required"


@pytest.mark.parametrize("document", [[], "text", 5, None, True])
def test_a_body_is_an_object(document: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        ORDERS.read(document)
    assert refused.value.details == {"base": ["invalid_type"]}


def test_fields_in_cores_envelope_go_by_their_own_names() -> None:
    reader = BodyReader(PlanEnvelope, {})
    with pytest.raises(InvalidInput) as refused:
        reader.read({"plan": {"code": "pro", "amount": "x"}})
    assert refused.value.details == {"amount": ["invalid_amount"]}
    with pytest.raises(InvalidInput) as refused:
        reader.read({})
    assert refused.value.details == {"plan": ["value_is_mandatory"]}


@pytest.mark.parametrize(
    ("query", "search"),
    [
        (b"customer_id=acme", Search("acme")),
        (b"customerId=acme&", Search("acme")),
        (b"customer_id=a%2Fb+c%C3%A9", Search("a/b cé")),
        (b"customer_id=null", Search("null")),
        (b"customer_id", Search("")),  # present and empty: whether that will do is the Struct's own rule
        (b"customer_id=a&status[]=active&status[]=pending", Search("a", ["active", "pending"])),
        (b"customer_id=a&status=active", Search("a", ["active"])),
        (b"customer_id=a&statuses%5B%5D=active&page=3", Search("a", ["active"], 3)),
        (b"customer_id=a&since=0.5", Search("a", since=Amount("0.5"))),
        (b"customer_id=a&unknown=1&__proto__=2", Search("a")),
    ],
)
def test_reads_query_strings(query: bytes, search: Search) -> None:
    assert SEARCHES.read(query) == search


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"customer_id=a&customer_id=a",
        b"customer_id=a&customerId=b",
        b"customer_id=%ff",
        b"customer_id=\xff",
        b"customer_id=a%00b",
        b"customer_id=a&page=x",
        b"customer_id=a&page=1.5",
        b"customer_id=a&page=",
        b"customer_id=a&since=NaN",
        b"customer_id=a&%00=1",
        b"customer_id=a&page=null",
        b"customer_id=a&since=Null",
    ],
)
def test_refuses_query_strings(query: bytes) -> None:
    with pytest.raises(InvalidInput):
        SEARCHES.read(query)
