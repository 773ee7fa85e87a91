alter table billable_metrics
    add column recurring boolean not null default false,
    add column weighted_interval text check (weighted_interval in ('seconds')),
    add column rounding_function text check (rounding_function in ('round', 'ceil', 'floor')),
    add column rounding_precision integer,
    drop constraint billable_metrics_aggregation_type_check,
    add constraint billable_metrics_aggregation_type_check check (aggregation_type in
        ('count_agg', 'sum_agg', 'max_agg', 'unique_count_agg', 'latest_agg', 'weighted_sum_agg'));

-- What is sold once, by itself on an invoice or as a fixed charge of a plan.
create table add_ons (
    org_id uuid not null references organizations (id),
    id uuid not null,
    code text not null check (code <> ''),
    name text not null,
    invoice_display_name text,
    description text,
    amount_cents bigint not null check (amount_cents >= 0),
    currency text not null,
    tax_codes text[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id)
);
create unique index add_ons_code on add_ons (org_id, code) where deleted_at is null;

alter table plan_versions
    add column invoice_display_name text,
    add column trial_days numeric not null default 0 check (trial_days >= 0),
    add column bill_charges_monthly boolean not null default false,
    add column bill_fixed_charges_monthly boolean not null default false,
    add column minimum_commitment jsonb,
    add column usage_thresholds jsonb not null default '[]',
    add column fixed_charges jsonb not null default '[]',
    add column tax_codes text[] not null default '{}',
    -- The version that this one overrides for a single subscription; such a version is never the plan's current one and
    -- has the number of the version it overrides.
    add column overrides uuid,
    drop constraint plan_versions_org_id_plan_id_version_key,
    add foreign key (org_id, overrides) references plan_versions (org_id, id);
create unique index plan_versions_number on plan_versions (org_id, plan_id, version) where overrides is null;
