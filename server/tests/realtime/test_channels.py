"""A channel has one name, and only that name finds it."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nozle_server.core.errors import InvalidInput
from nozle_server.core.text import parse_id
from nozle_server.realtime.channels import MAX_NAME_BYTES, name_of, parse_name
from nozle_server.realtime.model import Channel

ORG = UUID("019bc0de-7d4c-7a05-9d0a-2f3c1b6a5e01")


def test_names() -> None:
    assert name_of(Channel(ORG, "cust 1/ä:b")) == f"customer:{ORG}:cust%201%2F%C3%A4%3Ab"
    assert name_of(Channel(ORG, None)) == f"workspace:{ORG}:entitlements"


@given(st.text(min_size=1, max_size=60))
def test_a_name_finds_its_channel_again(customer: str) -> None:
    try:
        channel = Channel(ORG, parse_id(customer, "customer_id"))
    except InvalidInput:
        return
    name = name_of(channel)
    assert len(name) > MAX_NAME_BYTES or parse_name(name) == channel


@pytest.mark.parametrize(
    "name",
    [
        "",
        "customer",
        f"customer:{ORG}",
        f"customer:{ORG}:",
        f"customer:{ORG}:a:b",
        f"customer:{str(ORG).upper()}:a",
        f"customer:{ORG.hex}:a",
        f"customer:{ORG}:%61",
        f"customer:{ORG}:a b",
        f"customer:{ORG}:%ff",
        f"customer:{ORG}:%00",
        f"workspace:{ORG}:other",
        f"workspace:{ORG}:entitlements:x",
        f"other:{ORG}:a",
        "$customer:x:y",
        f"customer:{ORG}:" + "a" * MAX_NAME_BYTES,
    ],
)
def test_every_other_spelling_finds_nothing(name: str) -> None:
    assert parse_name(name) is None
