"""What concerns whom: the words by which caches drop what they keep."""

from uuid import uuid4

import pytest

from nozle_server.entitlements.news import Customers, Organization, concerned, of_customer
from nozle_server.infra.change_bus import Change

ORG = uuid4()


@pytest.mark.parametrize(
    "kind",
    [
        "subscription.started",
        "subscription.updated",
        "customer.created",
        "customer.deleted",
        "entity.suspended",
        "entitlements.changed",
    ],
)
def test_news_of_one_customer_name_it(kind: str) -> None:
    payload = of_customer("acme", {"more": 1})
    assert concerned(Change(ORG, kind, "subject", payload)) == Customers(("acme",))
    assert payload == {"more": 1, "external_customer_id": "acme"}


def test_usage_names_all_whose_it_is() -> None:
    change = Change(ORG, "usage.counted", "a", {"external_customer_ids": ["a", "b"]})
    assert concerned(change) == Customers(("a", "b"))


@pytest.mark.parametrize(
    "kind", ["entitlements.changed", "caches.reloaded", "subscription.started", "usage.counted"]
)
def test_news_that_name_nobody_are_everybodys(kind: str) -> None:
    """Those of an older release do not: to drop too much is safe, to drop too little is not."""
    assert concerned(Change(ORG, kind, "subject")) == Organization()


@pytest.mark.parametrize("kind", ["invoice.created", "credits.deducted", "alert.triggered", "wallet.created"])
def test_other_news_concern_nobodys_rights(kind: str) -> None:
    assert concerned(Change(ORG, kind, "subject", {"external_customer_id": "acme"})) is None
