"""Every method of the published client is called by a test here, or named as out of scope."""

import inspect
import re
from pathlib import Path

import pytest
from lago_python_client import Client

# What other issues are about, and what needs a payment provider.
OTHER_RESOURCES = {
    "activity_logs",
    "api_logs",
    "billing_entities",
    "customer_payment_methods",
    "customer_payment_requests",
    "order_forms",
    "orders",
    "payment_receipts",
    "payment_requests",
    "quote_versions",
    "quotes",
    "webhook_endpoints",
    "webhooks",
}
OTHER_METHODS = {
    "customers.checkout_url",  # a payment provider's page
    "customers.portal_url",  # a page of Lago's own
    "invoices.destroy",  # newer than the reference that we follow
    "usages.find_all",  # a data warehouse of Lago's own
    "wallet_transactions.payment_url",  # a payment provider's page
}
SOURCES = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))


def _resources() -> dict[str, object]:
    """The client's parts by the name that they are called under."""
    lago = Client(api_key="none")
    names = [name for name in dir(type(lago)) if not name.startswith("_")]
    found = {name: getattr(lago, name)() for name in names if hasattr(getattr(lago, name), "_obj")}
    wallets = found["customers"].wallets()
    nested = {"wallets": wallets, "alerts": wallets.alerts(), "metadata": wallets.metadata()}
    return found | {f"customers.{name}": part for name, part in nested.items()}


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_every_method_is_called() -> None:
    missing = []
    for resource, part in _resources().items():
        if resource in OTHER_RESOURCES:
            continue
        for method, _ in inspect.getmembers(part, inspect.ismethod):
            name = f"{resource}.{method}"
            if method.startswith("_") or method == "api_resource" or name in OTHER_METHODS:
                continue
            if not _is_called(resource, method):
                missing.append(name)
    assert missing == []


def _is_called(resource: str, method: str) -> bool:
    """Straight, through a short name (`notes = shop.lago.credit_notes`), or as a list of a parent's children."""
    last = resource.split(".")[-1]
    path = (
        rf"lago\.{re.escape(resource)}" if "." not in resource else rf"(lago\.)?customers\.wallets(\.{last})?"
    )
    if re.search(rf"{path}\.{method}\(", SOURCES):
        return True
    if method == "find_all" and re.search(rf"children\(shop, (\w+\.)*{re.escape(resource)},", SOURCES):
        return True
    for short in re.findall(rf"(\w+) = [\w.]*{path}$", SOURCES, flags=re.MULTILINE) + re.findall(
        rf"(\w+), \w+ = [\w.]*{path}, ", SOURCES
    ):
        short = short[0] if isinstance(short, tuple) else short
        if re.search(rf"\b{short}\.{method}\(", SOURCES) or re.search(rf"children\(shop, {short},", SOURCES):
            return True
    return False
