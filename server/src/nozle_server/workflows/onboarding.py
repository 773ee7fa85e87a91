"""A new organization, with what every organization has from the start."""

from datetime import datetime

from nozle_server.catalog.drafts import MetricDraft
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


async def open_organization(tx: Tx, *, name: str, mode: Mode, now: datetime) -> tuple[Organization, str, str]:
    """The organization, its first secret key and its first publishable key; the keys are shown this once."""
    organization, secret_key, publishable_key = await create_organization(tx, name=name, mode=mode, now=now)
    await create_metric(tx, org_id=organization.id, draft=LLM_TOKENS, now=now)
    return organization, secret_key, publishable_key
