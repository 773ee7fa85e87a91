"""Customers and the organization through the published client."""

import pytest
from lago_python_client.models.customer import (
    Address,
    Customer,
    CustomerBillingConfiguration,
    Metadata,
    MetadataList,
)
from lago_python_client.models.organization import Organization, OrganizationBillingConfiguration
from lago_python_client.models.tax import Tax

from core_client.shop import Shop, echoes, listed, refused, shows

pytestmark = pytest.mark.database

ACME = Customer(
    external_id="acme",
    address_line1="5230 Penfield Ave",
    address_line2="Suite 4",
    city="Woodland Hills",
    country="US",
    currency="EUR",
    email="dinesh@example.test",
    legal_name="Acme Inc.",
    legal_number="123",
    net_payment_term=30,
    tax_identification_number="EU123456789",
    logo_url="https://example.test/logo.png",
    name="Acme",
    firstname="Gavin",
    lastname="Belson",
    customer_type="company",
    phone="+1-171-883-3711",
    state="CA",
    timezone="Europe/Paris",
    url="https://example.test",
    zipcode="75001",
    metadata=MetadataList(__root__=[Metadata(key="region", value="west", display_in_invoice=True)]),
    finalize_zero_amount_invoice="skip",
    billing_configuration=CustomerBillingConfiguration(invoice_grace_period=3, document_locale="en"),
    shipping_address=Address(address_line1="Elsewhere 1", city="Paris", country="FR"),
    tax_codes=["vat"],
)


def test_customers(shop: Shop) -> None:
    shop.lago.taxes.create(Tax(name="VAT", code="vat", rate=20.0))
    customers = shop.lago.customers
    made = customers.create(ACME)
    echoes(made, ACME, but=("metadata", "billing_configuration", "shipping_address"))
    [metadata] = made.metadata.__root__
    shows(metadata, key="region", value="west", display_in_invoice=True)
    shows(made.billing_configuration, invoice_grace_period=3, document_locale="en")
    shows(made.shipping_address, address_line1="Elsewhere 1", city="Paris", country="FR")
    shows(made, applicable_timezone="Europe/Paris")
    assert [tax.code for tax in made.taxes.__root__] == ["vat"]
    assert customers.find("acme") == made
    changed = customers.create(Customer(external_id="acme", name="Acme & Sons"))
    shows(changed, lago_id=made.lago_id, name="Acme & Sons", city="Woodland Hills")
    small = customers.create(Customer(external_id="small"))
    shows(small, name=None, timezone=None, applicable_timezone="UTC", currency=None, net_payment_term=None)
    found = listed(customers.find_all({"per_page": 20}), "customers")
    assert {one.external_id for one in found} == {"acme", "small"}
    shows(customers.destroy("small"), external_id="small")
    with refused(404, "customer_not_found"):
        customers.find("small")


def test_the_organization(shop: Shop) -> None:
    wanted = Organization(
        default_currency="EUR",
        country="FR",
        address_line1="1 rue de Rivoli",
        address_line2="Bat. B",
        state="IDF",
        zipcode="75001",
        email="billing@example.test",
        city="Paris",
        legal_name="Merchant SAS",
        legal_number="RCS 1",
        document_numbering="per_organization",
        document_number_prefix="MER-0001",
        net_payment_term=15,
        tax_identification_number="FR123",
        timezone="Europe/Paris",
        finalize_zero_amount_invoice=True,
        billing_configuration=OrganizationBillingConfiguration(
            invoice_footer="Merci", invoice_grace_period=2, document_locale="en"
        ),
    )
    changed = shop.lago.organizations.update(wanted)
    echoes(changed, wanted)
    shows(changed, name="Merchant")
