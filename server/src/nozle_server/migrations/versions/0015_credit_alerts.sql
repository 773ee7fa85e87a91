-- Low-balance alerts and automatic top-up of credits. Both are about the customer's own credits, not its entities'.

-- Announced once each time that the credits fall from the threshold or above to below it.
create table credit_alerts (
    org_id uuid not null,
    account_id uuid not null,
    code text not null check (code <> ''),
    name text,
    threshold numeric(38, 12) not null check (threshold > 0),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, account_id, code),
    foreign key (org_id, account_id) references credit_accounts (org_id, id)
);

-- Below the threshold, `amount` more credits are wished for: announced once, and not again until that wish is answered.
create table credit_top_up_rules (
    org_id uuid not null,
    account_id uuid not null,
    status text not null default 'active' check (status in ('active', 'paused')),
    amount numeric(38, 12) not null check (amount > 0),
    threshold numeric(38, 12) not null check (threshold > 0),
    -- At most so many credits wished for in a calendar month of the customer.
    monthly_cap numeric(38, 12) check (monthly_cap >= amount),
    -- The wish that waits for its answer, since when.
    wish_id uuid,
    wished_at timestamptz check ((wished_at is null) = (wish_id is null)),
    month_start timestamptz,
    wished_in_month numeric(38, 12) not null default 0 check (wished_in_month >= 0),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, account_id),
    foreign key (org_id, account_id) references credit_accounts (org_id, id)
);
