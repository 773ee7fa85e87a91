-- The foundation. Conventions, which tests/infra/test_schema.py holds every later migration to:
--   * org_id comes first in every primary key, unique key and foreign key; the exceptions are named in that test.
--   * Amounts are NUMERIC or integer minor units (_cents BIGINT when settled); no float anywhere.
--   * Instants are timestamptz; periods are half-open.
--   * What must never change (ledger, finalized invoices) is refused by triggers, not only by code.

create table organizations (
    id uuid primary key,
    name text not null check (name <> ''),
    mode text not null check (mode in ('test', 'live')),
    default_currency text not null default 'USD',
    timezone text not null default 'UTC',
    publishable_key_access text not null default 'open'
        check (publishable_key_access in ('open', 'customer_session', 'catalog_only')),
    show_margin_to_publishable_keys boolean not null default false,
    margin_enforcement text not null default 'observe' check (margin_enforcement in ('observe', 'warn', 'deny')),
    min_margin_percent numeric,
    -- The test clock: null while the organization lives on real time. Live organizations never have one.
    test_now timestamptz check (test_now is null or mode = 'test'),
    created_at timestamptz not null
);

create table organization_counters (
    org_id uuid not null references organizations (id),
    name text not null,
    value bigint not null default 0,
    primary key (org_id, name)
);

create table api_keys (
    key_hash bytea primary key,
    org_id uuid not null references organizations (id),
    id uuid not null,
    kind text not null check (kind in ('secret', 'publishable')),
    hint text not null,
    name text not null default '',
    created_at timestamptz not null,
    revoked_at timestamptz,
    unique (org_id, id)
);

create table customers (
    org_id uuid not null references organizations (id),
    id uuid not null,
    external_id text not null check (external_id <> ''),
    sequential_id bigint not null,
    name text,
    email text,
    currency text,
    timezone text,
    details jsonb not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, external_id),
    unique (org_id, sequential_id)
);

create table customer_sessions (
    org_id uuid not null,
    token_hash bytea not null,
    customer_id uuid not null,
    scopes text[] not null,
    expires_at timestamptz not null,
    created_at timestamptz not null,
    primary key (org_id, token_hash),
    foreign key (org_id, customer_id) references customers (org_id, id)
);
create index customer_sessions_by_expiry on customer_sessions (expires_at);

create table billable_metrics (
    org_id uuid not null references organizations (id),
    id uuid not null,
    code text not null check (code <> ''),
    name text not null,
    description text,
    aggregation_type text not null
        check (aggregation_type in ('count_agg', 'sum_agg', 'max_agg', 'unique_count_agg', 'latest_agg')),
    field_name text,
    expression text,
    filters jsonb not null default '[]',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id)
);
create unique index billable_metrics_code on billable_metrics (org_id, code) where deleted_at is null;

create table features (
    org_id uuid not null references organizations (id),
    id uuid not null,
    code text not null check (code <> ''),
    name text not null,
    description text,
    metric_id uuid,
    privileges jsonb not null default '[]',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id),
    foreign key (org_id, metric_id) references billable_metrics (org_id, id)
);
create unique index features_code on features (org_id, code) where deleted_at is null;

-- A plan is a name with versions: prices live in an immutable version, which its subscribers keep.
create table plans (
    org_id uuid not null references organizations (id),
    id uuid not null,
    code text not null check (code <> ''),
    name text not null,
    description text,
    current_version_id uuid,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id)
);
create unique index plans_code on plans (org_id, code) where deleted_at is null;

create table plan_versions (
    org_id uuid not null,
    id uuid not null,
    plan_id uuid not null,
    version integer not null check (version > 0),
    interval text not null check (interval in ('weekly', 'monthly', 'quarterly', 'semiannual', 'yearly')),
    amount_cents bigint not null check (amount_cents >= 0),
    currency text not null,
    pay_in_advance boolean not null,
    credits numeric(38, 12) not null default 0 check (credits >= 0),
    charges jsonb not null default '[]',
    created_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, plan_id, version),
    foreign key (org_id, plan_id) references plans (org_id, id)
);
alter table plans add foreign key (org_id, current_version_id) references plan_versions (org_id, id)
    deferrable initially deferred;

-- What a plan entitles to is not versioned: switching a feature on or off reaches every subscriber at once.
create table plan_entitlements (
    org_id uuid not null,
    plan_id uuid not null,
    feature_id uuid not null,
    privileges jsonb not null default '{}',
    created_at timestamptz not null,
    primary key (org_id, plan_id, feature_id),
    foreign key (org_id, plan_id) references plans (org_id, id),
    foreign key (org_id, feature_id) references features (org_id, id)
);

create table subscriptions (
    org_id uuid not null,
    id uuid not null,
    external_id text not null,
    customer_id uuid not null,
    plan_id uuid not null,
    plan_version_id uuid not null,
    name text,
    status text not null check (status in ('pending', 'active', 'terminated', 'canceled')),
    billing_time text not null check (billing_time in ('anniversary', 'calendar')),
    timezone text not null,
    started_at timestamptz not null,
    ending_at timestamptz check (ending_at > started_at),
    terminated_at timestamptz,
    canceled_at timestamptz,
    current_period_start timestamptz not null,
    current_period_end timestamptz not null check (current_period_end > current_period_start),
    -- Usage before this instant is on a finalized invoice.
    billed_through timestamptz not null,
    created_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, external_id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, plan_id) references plans (org_id, id),
    foreign key (org_id, plan_version_id) references plan_versions (org_id, id)
);
create index subscriptions_by_customer on subscriptions (org_id, customer_id);
create index subscriptions_by_plan on subscriptions (org_id, plan_id);

-- (organization, transaction_id) is unique for as long as the event is kept, whatever its timestamp. A narrow table of
-- its own, because events are partitioned by time and a unique key there would have to hold the time.
create table event_ids (
    org_id uuid not null,
    transaction_id text not null,
    event_id uuid not null,
    occurred_at timestamptz not null,
    payload_hash bytea not null,
    primary key (org_id, transaction_id)
) partition by hash (org_id, transaction_id);
create table event_ids_0 partition of event_ids for values with (modulus 8, remainder 0);
create table event_ids_1 partition of event_ids for values with (modulus 8, remainder 1);
create table event_ids_2 partition of event_ids for values with (modulus 8, remainder 2);
create table event_ids_3 partition of event_ids for values with (modulus 8, remainder 3);
create table event_ids_4 partition of event_ids for values with (modulus 8, remainder 4);
create table event_ids_5 partition of event_ids for values with (modulus 8, remainder 5);
create table event_ids_6 partition of event_ids for values with (modulus 8, remainder 6);
create table event_ids_7 partition of event_ids for values with (modulus 8, remainder 7);

-- No foreign keys here: an event may name a customer that does not exist (it is kept and flagged), and the hot path
-- should not pay for them. Day partitions are made ahead by infra/partitions.py; everything else is in the default one.
create table events (
    org_id uuid not null,
    occurred_at timestamptz not null,
    id uuid not null,
    transaction_id text not null,
    received_at timestamptz not null,
    code text not null,
    external_customer_id text,
    external_subscription_id text,
    customer_id uuid,
    subscription_id uuid,
    metric_id uuid,
    -- counted: in its period's usage. late: its period is already invoiced. unmatched: no customer, subscription or
    -- metric for it (reason says which).
    status text not null check (status in ('counted', 'late', 'unmatched')),
    reason text,
    quantity numeric,
    unique_value text,
    model text,
    input_tokens numeric not null default 0,
    output_tokens numeric not null default 0,
    cost_cents numeric,
    cost_model_id uuid,
    precise_total_amount_cents numeric,
    properties jsonb not null,
    primary key (org_id, occurred_at, id)
) partition by range (occurred_at);
create table events_default partition of events default;
create index events_by_subscription on events (org_id, subscription_id, metric_id, occurred_at);
create index events_by_external_customer on events (org_id, external_customer_id, occurred_at);

-- Usage counters: one row a (subscription, metric, period), kept in the transaction that stores the event.
create table usage_counters (
    org_id uuid not null,
    subscription_id uuid not null,
    metric_id uuid not null,
    period_start timestamptz not null,
    units numeric not null,
    events_count bigint not null,
    latest_at timestamptz,
    latest_transaction_id text collate "C",
    primary key (org_id, subscription_id, metric_id, period_start)
);
create table usage_unique_values (
    org_id uuid not null,
    subscription_id uuid not null,
    metric_id uuid not null,
    period_start timestamptz not null,
    value text not null,
    primary key (org_id, subscription_id, metric_id, period_start, value)
);

create table cost_models (
    org_id uuid not null references organizations (id),
    id uuid not null,
    name text not null,
    metric_code text not null,
    cost_type text not null check (cost_type in ('per_unit', 'per_model', 'tiered')),
    model text,
    amount_cents numeric(38, 12) check (amount_cents >= 0),
    model_rates jsonb,
    tier_mode text check (tier_mode in ('SLAB', 'VOLUME')),
    tiers jsonb,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id)
);
create index cost_models_by_metric on cost_models (org_id, metric_code) where deleted_at is null;
create table cost_tier_usage (
    org_id uuid not null,
    cost_model_id uuid not null,
    month_start date not null,
    quantity numeric not null,
    primary key (org_id, cost_model_id, month_start)
);

create table credit_accounts (
    org_id uuid not null,
    id uuid not null,
    customer_id uuid not null,
    credit_system text not null default 'credits',
    balance numeric(38, 12) not null default 0 check (balance >= 0),
    granted numeric(38, 12) not null default 0,
    consumed numeric(38, 12) not null default 0,
    expired numeric(38, 12) not null default 0,
    last_sequence bigint not null default 0,
    created_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, customer_id, credit_system),
    check (balance = granted - consumed - expired),
    foreign key (org_id, customer_id) references customers (org_id, id)
);
create table credit_grants (
    org_id uuid not null,
    id uuid not null,
    account_id uuid not null,
    amount numeric(38, 12) not null check (amount > 0),
    remaining numeric(38, 12) not null check (remaining >= 0 and remaining <= amount),
    priority smallint not null default 50,
    source text not null check (source in ('plan', 'manual', 'top_up', 'promotion')),
    -- The caller's or our own name for the one effect meant, for example a plan's grant for one period.
    reference text,
    description text,
    expires_at timestamptz,
    created_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, account_id, reference),
    foreign key (org_id, account_id) references credit_accounts (org_id, id)
);
create index credit_grants_live on credit_grants (org_id, account_id) where remaining > 0;
create table ledger_entries (
    org_id uuid not null,
    id uuid not null,
    account_id uuid not null,
    sequence bigint not null,
    type text not null check (type in ('grant', 'deduct', 'expire')),
    amount numeric(38, 12) not null check (amount <> 0 and (amount > 0) = (type = 'grant')),
    balance_after numeric(38, 12) not null check (balance_after >= 0),
    feature text,
    description text,
    entity_id text,
    occurred_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, account_id, sequence),
    foreign key (org_id, account_id) references credit_accounts (org_id, id)
);
-- Which grants an entry filled or drew on; their amounts sum to the entry's.
create table ledger_allocations (
    org_id uuid not null,
    entry_id uuid not null,
    grant_id uuid not null,
    amount numeric(38, 12) not null check (amount <> 0),
    primary key (org_id, entry_id, grant_id),
    foreign key (org_id, entry_id) references ledger_entries (org_id, id),
    foreign key (org_id, grant_id) references credit_grants (org_id, id)
);

create table idempotency_keys (
    org_id uuid not null,
    operation text not null,
    key text not null,
    request_hash bytea not null,
    status smallint not null default 0,
    response bytea,
    ledger boolean not null default false,
    created_at timestamptz not null,
    primary key (org_id, operation, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at) where not ledger;

create table invoices (
    org_id uuid not null,
    id uuid not null,
    sequential_id bigint not null,
    number text not null,
    customer_id uuid not null,
    subscription_id uuid,
    invoice_type text not null check (invoice_type in ('subscription')),
    billing_reason text not null check (billing_reason in ('subscription_starting', 'subscription_periodic', 'subscription_terminating')),
    status text not null check (status in ('draft', 'finalized', 'voided')),
    payment_status text not null check (payment_status in ('pending', 'succeeded', 'failed')),
    currency text not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    -- Whole minor units, as wide as the largest quantity times the largest price: a bill that no integer type holds must
    -- not stop the others.
    fees_amount_cents numeric(60, 0) not null,
    total_amount_cents numeric(60, 0) not null,
    issuing_date date not null,
    payment_due_date date not null,
    created_at timestamptz not null,
    finalized_at timestamptz,
    primary key (org_id, id),
    unique (org_id, sequential_id),
    unique (org_id, subscription_id, billing_reason, period_start),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id)
);
create index invoices_by_customer on invoices (org_id, customer_id, sequential_id desc);
create table invoice_lines (
    org_id uuid not null,
    id uuid not null,
    invoice_id uuid not null,
    position integer not null,
    kind text not null check (kind in ('subscription', 'charge')),
    subscription_id uuid not null,
    plan_id uuid not null,
    plan_version_id uuid not null,
    charge_id uuid,
    charge_filter_id uuid,
    metric_id uuid,
    metric_code text,
    description text not null,
    units numeric not null,
    events_count bigint not null,
    exact_amount_cents numeric not null,
    amount_cents numeric(60, 0) not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    steps jsonb not null default '[]',
    primary key (org_id, id),
    unique (org_id, invoice_id, position),
    foreign key (org_id, invoice_id) references invoices (org_id, id)
);
create index invoice_lines_by_period on invoice_lines (org_id, period_start);

-- What falls due, in order. The test clock drains it synchronously; the job queue wakes a worker for real time.
create table due_items (
    org_id uuid not null references organizations (id),
    id uuid not null,
    due_at timestamptz not null,
    kind text not null,
    subject_id uuid not null,
    created_at timestamptz not null,
    -- What failed is put aside with its error, so that it holds up nothing else.
    parked_at timestamptz,
    error text,
    primary key (org_id, id),
    unique (org_id, kind, subject_id, due_at)
);
create index due_items_in_order on due_items (org_id, due_at) where parked_at is null;
create index due_items_by_time on due_items (due_at) where parked_at is null;
create index due_items_parked on due_items (parked_at) where parked_at is not null;

-- Facts announced in the transaction that made them true.
create table outbox (
    org_id uuid not null,
    id uuid not null,
    kind text not null,
    subject text not null,
    payload jsonb not null default '{}',
    created_at timestamptz not null,
    transaction xid8 not null default pg_current_xact_id(),
    primary key (org_id, id)
);
create index outbox_by_transaction on outbox (transaction);
create index outbox_by_age on outbox (created_at);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete on ledger_entries for each row execute function refuse_change();
create trigger append_only before update or delete on ledger_allocations for each row execute function refuse_change();
create trigger append_only before update or delete on plan_versions for each row execute function refuse_change();
create trigger append_only before update or delete on invoice_lines for each row execute function refuse_change();
create trigger no_truncate before truncate on ledger_entries execute function refuse_change();
create trigger no_truncate before truncate on ledger_allocations execute function refuse_change();
create trigger no_truncate before truncate on invoice_lines execute function refuse_change();

-- A finalized invoice is never rewritten; only its payment status moves on, and voiding keeps its figures.
create function refuse_rewriting_invoice() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'invoices are never deleted' using errcode = 'restrict_violation';
    end if;
    if old.status <> 'draft' and (to_jsonb(new) - 'payment_status' - 'status') <> (to_jsonb(old) - 'payment_status' - 'status')
        or old.status = 'finalized' and new.status not in ('finalized', 'voided')
        or old.status = 'voided' and new.status <> 'voided' then
        raise exception 'a finalized invoice is never rewritten' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger never_rewritten before update or delete on invoices for each row execute function refuse_rewriting_invoice();

-- The total is the sum of the lines, checked when the transaction commits, whichever of the two was written.
create function check_invoice_total(of_org uuid, of_invoice uuid) returns void language plpgsql as $$
declare
    invoice invoices;
    lines numeric;
begin
    select * into invoice from invoices where org_id = of_org and id = of_invoice;
    select coalesce(sum(amount_cents), 0) into lines from invoice_lines where org_id = of_org and invoice_id = of_invoice;
    if invoice.status = 'finalized'
       and (lines <> invoice.fees_amount_cents or invoice.total_amount_cents <> invoice.fees_amount_cents) then
        raise exception 'invoice total % differs from the sum of its lines %', invoice.total_amount_cents, lines
            using errcode = 'check_violation';
    end if;
end $$;
create function check_total_of_invoice() returns trigger language plpgsql as $$
begin
    perform check_invoice_total(new.org_id, new.id);
    return null;
end $$;
create function check_total_of_line() returns trigger language plpgsql as $$
begin
    perform check_invoice_total(new.org_id, new.invoice_id);
    return null;
end $$;
create constraint trigger total_is_sum_of_lines after insert or update on invoices
    deferrable initially deferred for each row execute function check_total_of_invoice();
create constraint trigger total_is_sum_of_lines after insert on invoice_lines
    deferrable initially deferred for each row execute function check_total_of_line();
