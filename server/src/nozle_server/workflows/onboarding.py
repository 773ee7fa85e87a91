"""A new organization, with what every organization has from the start."""

from datetime import datetime

from nozle_server.catalog.credit_model import DEFAULT_CREDIT_SYSTEM
from nozle_server.catalog.credit_system_drafts import CreditSystemDraft
from nozle_server.catalog.drafts import MetricDraft
from nozle_server.catalog.operations.credit_systems import create_credit_system
from nozle_server.catalog.operations.metrics import create_metric
from nozle_server.identity.model import Mode, Organization
from nozle_server.identity.operations import create_organization
from nozle_server.infra.database import Tx

# What the LLM proxy and the SDKs' capture report (contract Decision 21).
LLM_TOKENS = MetricDraft(
    code="llm_tokens",
    name="LLM tokens",
    aggregation_type="sum_agg",
    field_name="total_tokens",
    expression="event.properties.input_tokens + event.properties.output_tokens",
)

# What is granted and taken where no credit system is named (contract Decision 6).
CREDITS = CreditSystemDraft(code=DEFAULT_CREDIT_SYSTEM, name="Credits", unit_name="credits")


async def open_organization(tx: Tx, *, name: str, mode: Mode, now: datetime) -> tuple[Organization, str, str]:
    """The organization, its first secret key and its first publishable key; the keys are shown this once."""
    organization, secret_key, publishable_key = await create_organization(tx, name=name, mode=mode, now=now)
    await create_metric(tx, org_id=organization.id, draft=LLM_TOKENS, now=now)
    await create_credit_system(tx, org_id=organization.id, draft=CREDITS, now=now)
    return organization, secret_key, publishable_key
