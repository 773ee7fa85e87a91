-- Operations of product credits: what usage/track consumed or was denied, and which transfers were denied.

-- What the ledger does not say of an operation: which usage was paid, at which rate. And what was denied, which the ledger
-- knows nothing of.
create table usage_operations (
    org_id uuid not null,
    -- What was done has the id of its ledger entry, which `entry_id` says again, for the key to it.
    id uuid not null,
    customer_id uuid not null,
    -- Its code, as in credit_accounts: a key to the system would make whoever changes it wait for all that use it.
    credit_system text not null,
    type text not null check (type in ('consume', 'transfer')),
    status text not null check (status in ('succeeded', 'denied')),
    reason text check ((reason is null) = (status = 'succeeded')),
    entry_id uuid check ((entry_id is null) = (status = 'denied')),
    entity_id uuid,
    metric_id uuid,
    metric_amount numeric check (metric_amount > 0),
    rate_id uuid,
    rate_metric_amount numeric(38, 12),
    rate_credit_amount numeric(38, 12),
    credit_amount numeric not null check (credit_amount > 0),
    -- When the usage happened, and when it was decided.
    occurred_at timestamptz not null,
    created_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, entry_id) references ledger_entries (org_id, id),
    foreign key (org_id, entity_id) references entities (org_id, id),
    foreign key (org_id, metric_id) references billable_metrics (org_id, id),
    foreign key (org_id, rate_id) references credit_rates (org_id, id),
    check (num_nulls(metric_id, metric_amount, rate_id, rate_metric_amount, rate_credit_amount)
        = case type when 'consume' then 0 else 5 end)
);
-- What was done is found by its entry; what was denied, by whom it was denied.
create index usage_operations_denied on usage_operations (org_id, customer_id, id) where status = 'denied';
create index usage_operations_denied_of_entity on usage_operations (org_id, entity_id, id)
    where status = 'denied' and entity_id is not null;
create trigger append_only before update or delete on usage_operations for each row execute function refuse_change();
create trigger no_truncate before truncate on usage_operations execute function refuse_change();

-- An entity's operations, among all of its customer's.
create index ledger_entries_of_entity on ledger_entries (org_id, entity_id, account_id, sequence)
    where entity_id is not null;
