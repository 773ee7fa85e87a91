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

alter table plans add column metadata jsonb;
-- Few at any time; a plan tells how many it has.
create index invoices_in_draft on invoices (org_id) where status = 'draft';

-- Subscribers of other versions of a plan move to one of its versions, each when its billing period ends: by then a
-- subscription on that version follows it. What became of a migration is seen from those; only its cancellation is told.
create table plan_version_migrations (
    org_id uuid not null,
    id uuid not null,
    plan_id uuid not null,
    -- Null: from every other version.
    from_version integer,
    to_version_id uuid not null,
    created_at timestamptz not null,
    canceled_at timestamptz,
    primary key (org_id, id),
    foreign key (org_id, plan_id) references plans (org_id, id),
    foreign key (org_id, to_version_id) references plan_versions (org_id, id)
);
create index plan_version_migrations_of on plan_version_migrations (org_id, plan_id, created_at);

create table plan_version_migration_items (
    org_id uuid not null,
    migration_id uuid not null,
    subscription_id uuid not null,
    -- The subscription that follows it; itself, where it had not begun and simply begins on the other version.
    successor_id uuid,
    skip_reason text,
    effective_at timestamptz,
    primary key (org_id, migration_id, subscription_id),
    foreign key (org_id, migration_id) references plan_version_migrations (org_id, id),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id),
    foreign key (org_id, successor_id) references subscriptions (org_id, id),
    check ((successor_id is null) = (skip_reason is not null)),
    check ((successor_id is null) = (effective_at is null))
);

-- The latest operation on each value of a unique count, in order of the events' time: a value that is removed is kept with
-- `present` false, so that an operation that comes late finds what stands above it. `was_present` is what it was before
-- the last change.
alter table usage_unique_values
    add column present boolean not null default true,
    add column was_present boolean not null default false,
    add column latest_at timestamptz not null default '-infinity',
    add column latest_transaction_id text collate "C" not null default '';
