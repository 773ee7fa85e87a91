-- A deleted customer's external id may be another customer's.
alter table customers drop constraint customers_org_id_external_id_key;
create unique index customers_external_id on customers (org_id, external_id) where deleted_at is null;
create index customers_by_age on customers (org_id, created_at, id);

-- What somebody wants to be looked at after it changed: once, however often it changes before that.
create table watches (
    org_id uuid not null references organizations (id),
    -- The kind of due item that looks.
    kind text not null,
    -- What is looked at, in the words of who looks.
    key text not null,
    -- What the due item names.
    id uuid not null,
    -- A look is coming, and has not begun.
    pending boolean not null default false,
    primary key (org_id, kind, key),
    unique (org_id, id)
);

create table alerts (
    org_id uuid not null references organizations (id),
    id uuid not null,
    -- Of a chain of subscriptions, or of a wallet.
    external_subscription_id text,
    wallet_id uuid,
    customer_id uuid not null,
    alert_type text not null check (alert_type in ('current_usage_amount', 'lifetime_usage_amount',
        'billable_metric_current_usage_amount', 'billable_metric_current_usage_units', 'wallet_balance_amount',
        'wallet_credits_balance', 'wallet_ongoing_balance_amount', 'wallet_credits_ongoing_balance')),
    code text not null check (code <> ''),
    name text,
    metric_id uuid,
    -- [{"code", "value", "recurring"}]
    thresholds jsonb not null,
    -- What the last look found, and the period it found it in where the value starts anew with each.
    previous_value numeric not null,
    previous_period_start timestamptz,
    last_processed_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id),
    foreign key (org_id, wallet_id) references wallets (org_id, id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, metric_id) references billable_metrics (org_id, id),
    check ((external_subscription_id is null) <> (wallet_id is null))
);
create unique index alerts_code_of_subscription on alerts (org_id, external_subscription_id, code)
    where deleted_at is null and external_subscription_id is not null;
create unique index alerts_code_of_wallet on alerts (org_id, wallet_id, code)
    where deleted_at is null and wallet_id is not null;
create unique index alerts_type_of_subscription on alerts (org_id, external_subscription_id, alert_type,
    (coalesce(metric_id, '00000000-0000-0000-0000-000000000000')))
    where deleted_at is null and external_subscription_id is not null;
create unique index alerts_type_of_wallet on alerts (org_id, wallet_id, alert_type)
    where deleted_at is null and wallet_id is not null;
create index alerts_of_customer on alerts (org_id, customer_id) where deleted_at is null and wallet_id is not null;

create table triggered_alerts (
    org_id uuid not null,
    id uuid not null,
    alert_id uuid not null,
    subscription_id uuid,
    current_value numeric not null,
    previous_value numeric not null,
    crossed_thresholds jsonb not null,
    triggered_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, alert_id) references alerts (org_id, id),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id)
);
create index triggered_alerts_of on triggered_alerts (org_id, alert_id, triggered_at);

-- What was used before the merchant came to us, of all subscriptions with an external id.
create table historical_usage (
    org_id uuid not null references organizations (id),
    external_subscription_id text not null,
    amount_cents numeric(60, 0) not null check (amount_cents >= 0),
    updated_at timestamptz not null,
    primary key (org_id, external_subscription_id)
);
