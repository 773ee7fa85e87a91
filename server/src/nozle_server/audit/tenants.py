"""Every id belongs to its tenant: what a row names exists in the row's own organization.

Foreign keys promise that for most columns; the auditor asks all the same, since a restored or replicated database may
hold rows that nobody checked. Those keys are read from the catalogue (`store.list_references`), so that a new one is
audited when it is declared. The columns that have none, by choice, stand here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nozle_server.audit.model import Check

REFERENCES = "id_belongs_to_its_tenant"


@dataclass(frozen=True, slots=True)
class Reference:
    """`table.column` names `target.target_column` of the same organization; a null names nothing."""

    table: str
    column: str
    target: str
    target_column: str = "id"
    only: str = "true"


# Columns without a foreign key: the hot path does not pay for one, or what is named depends on another column.
UNDECLARED = (
    *(
        Reference(table, "org_id", "organizations")
        for table in ("events", "event_ids", "usage_counters", "usage_unique_values", "cost_tier_usage")
    ),
    *(
        Reference(table, "org_id", "organizations")
        for table in ("outbox", "idempotency_keys", "realtime_channels")
    ),
    Reference("events", "customer_id", "customers"),
    Reference("events", "subscription_id", "subscriptions"),
    Reference("events", "metric_id", "billable_metrics"),
    Reference("events", "cost_model_id", "cost_models"),
    Reference("usage_counters", "subscription_id", "subscriptions"),
    Reference("usage_counters", "metric_id", "billable_metrics"),
    Reference("usage_unique_values", "subscription_id", "subscriptions"),
    Reference("usage_unique_values", "metric_id", "billable_metrics"),
    Reference("cost_tier_usage", "cost_model_id", "cost_models"),
    Reference("late_periods", "metric_id", "billable_metrics"),
    Reference("advance_arrivals", "metric_id", "billable_metrics"),
    Reference("invoice_lines", "subscription_id", "subscriptions"),
    Reference("invoice_lines", "plan_id", "plans"),
    Reference("invoice_lines", "plan_version_id", "plan_versions"),
    Reference("invoice_lines", "metric_id", "billable_metrics"),
    Reference("invoice_lines", "add_on_id", "add_ons"),
    Reference("invoice_lines", "true_up_of", "invoice_lines"),
    Reference("invoice_lines", "adjusts_invoice_id", "invoices"),
    Reference("invoice_lines", "wallet_transaction_id", "wallet_transactions"),
    Reference("invoice_credits", "source_id", "invoices", only="kind = 'progressive_billing'"),
    Reference("invoice_credits", "source_id", "applied_coupons", only="kind = 'coupon'"),
    Reference("invoice_credits", "source_id", "credit_notes", only="kind = 'credit_note'"),
    Reference("invoice_credits", "source_id", "wallet_transactions", only="kind = 'wallet'"),
    Reference("wallet_transactions", "credit_note_id", "credit_notes"),
    *(
        Reference(table, "entity_id", "entities")
        for table in ("credit_grants", "ledger_entries", "credit_holds", "credit_budgets")
    ),
    Reference("ledger_entries", "hold_id", "credit_holds"),
)


def check_of(references: Iterable[Reference]) -> Check:
    """One check over all of them; a finding says which column, and what it names."""
    return Check(
        REFERENCES,
        "what a row names exists, and belongs to the same organization",
        "\n        union all".join(_unmatched(one) for one in references),
    )


def _unmatched(one: Reference) -> str:
    same_org = "" if one.target == "organizations" else "t.org_id = r.org_id and "
    return f"""
        select r.org_id, jsonb_build_object('column', '{one.table}.{one.column}', 'id', r.named) as ids,
            'one of {one.target}' as expected, 'none' as found
        from (
            select distinct org_id, {one.column} as named from {one.table} r
            where $org(r) and {one.column} is not null and {one.only}
        ) r left join {one.target} t on {same_org}t.{one.target_column} = r.named
        where t.{one.target_column} is null"""
