-- The last event of a subscription and metric that was charged at once. Events take turns on this row, so that each is priced
-- by all that arrived before it, in the order in which they had their turn.
create table advance_arrivals (
    org_id uuid not null,
    subscription_id uuid not null,
    metric_id uuid not null,
    received_at timestamptz not null,
    event_id uuid not null,
    primary key (org_id, subscription_id, metric_id),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id)
);

-- Fees paid in advance that are on no invoice (yet).
create index invoice_lines_apart on invoice_lines (org_id, customer_id) where invoice_id is null;

-- Thresholds of usage that were reached, and the progressive invoice made for them: each once, a recurring one once for
-- each amount. `subscription_id` is the first of its chain of plan changes.
create table reached_thresholds (
    org_id uuid not null,
    subscription_id uuid not null,
    threshold_id uuid not null,
    amount_cents numeric(60, 0) not null check (amount_cents > 0),
    invoice_id uuid not null,
    lifetime_usage_amount_cents numeric(60, 0) not null,
    reached_at timestamptz not null,
    primary key (org_id, subscription_id, threshold_id, amount_cents),
    foreign key (org_id, subscription_id) references subscriptions (org_id, id),
    foreign key (org_id, invoice_id) references invoices (org_id, id)
);
