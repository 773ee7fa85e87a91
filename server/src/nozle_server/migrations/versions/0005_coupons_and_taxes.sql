create table taxes (
    org_id uuid not null references organizations (id),
    id uuid not null,
    code text not null check (code <> ''),
    name text not null,
    description text,
    -- Percent.
    rate numeric(38, 12) not null check (rate >= 0),
    applied_to_organization boolean not null default false,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id)
);
create unique index taxes_code on taxes (org_id, code) where deleted_at is null;

-- Taxes of a customer's own, which stand above the organization's.
create table customer_taxes (
    org_id uuid not null,
    customer_id uuid not null,
    tax_id uuid not null,
    primary key (org_id, customer_id, tax_id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, tax_id) references taxes (org_id, id)
);
create index customer_taxes_by_tax on customer_taxes (org_id, tax_id);

create table coupons (
    org_id uuid not null references organizations (id),
    id uuid not null,
    code text not null check (code <> ''),
    name text not null,
    description text,
    coupon_type text not null check (coupon_type in ('fixed_amount', 'percentage')),
    amount_cents bigint check (amount_cents > 0),
    currency text,
    percentage_rate numeric(38, 12) check (percentage_rate > 0),
    frequency text not null check (frequency in ('once', 'recurring', 'forever')),
    frequency_duration bigint check (frequency_duration > 0),
    -- After this instant nobody gets the coupon any more; who has it keeps it.
    expiration_at timestamptz,
    reusable boolean not null default true,
    limited_plans boolean not null default false,
    limited_billable_metrics boolean not null default false,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id),
    check ((coupon_type = 'fixed_amount') = (amount_cents is not null)),
    check ((coupon_type = 'fixed_amount') = (currency is not null)),
    check ((coupon_type = 'percentage') = (percentage_rate is not null)),
    check ((frequency = 'recurring') = (frequency_duration is not null)),
    check (not (limited_plans and limited_billable_metrics))
);
create unique index coupons_code on coupons (org_id, code) where deleted_at is null;

create table coupon_plans (
    org_id uuid not null,
    coupon_id uuid not null,
    plan_id uuid not null,
    primary key (org_id, coupon_id, plan_id),
    foreign key (org_id, coupon_id) references coupons (org_id, id),
    foreign key (org_id, plan_id) references plans (org_id, id)
);
create table coupon_metrics (
    org_id uuid not null,
    coupon_id uuid not null,
    metric_id uuid not null,
    primary key (org_id, coupon_id, metric_id),
    foreign key (org_id, coupon_id) references coupons (org_id, id),
    foreign key (org_id, metric_id) references billable_metrics (org_id, id)
);

-- A coupon that a customer has, with the values agreed for this customer.
create table applied_coupons (
    org_id uuid not null,
    id uuid not null,
    coupon_id uuid not null,
    customer_id uuid not null,
    amount_cents bigint check (amount_cents >= 0),
    currency text,
    percentage_rate numeric(38, 12) check (percentage_rate > 0),
    frequency text not null check (frequency in ('once', 'recurring', 'forever')),
    frequency_duration bigint check (frequency_duration > 0),
    frequency_duration_remaining bigint check (frequency_duration_remaining between 0 and frequency_duration),
    status text not null check (status in ('active', 'terminated')),
    terminated_at timestamptz,
    -- Whether invoices took all of it (a voided one gives its part back), or somebody took it away.
    ended_by text check (ended_by in ('use', 'removal')),
    created_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, coupon_id) references coupons (org_id, id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    check ((frequency = 'recurring') = (frequency_duration is not null)),
    check ((frequency = 'recurring') = (frequency_duration_remaining is not null)),
    check ((status = 'terminated') = (terminated_at is not null)),
    check ((status = 'terminated') = (ended_by is not null))
);
create index applied_coupons_by_customer on applied_coupons (org_id, customer_id, created_at, id);
create index applied_coupons_by_coupon on applied_coupons (org_id, coupon_id);
create index applied_coupons_by_age on applied_coupons (org_id, created_at, id);

-- What an invoice took of it: once an invoice. As wide as an invoice's amounts.
create table coupon_uses (
    org_id uuid not null,
    id uuid not null,
    applied_coupon_id uuid not null,
    invoice_id uuid not null,
    amount_cents numeric(60, 0) not null check (amount_cents > 0),
    created_at timestamptz not null,
    -- The invoice was voided: what it took counts no more.
    given_back boolean not null default false,
    primary key (org_id, id),
    unique (org_id, invoice_id, applied_coupon_id),
    foreign key (org_id, applied_coupon_id) references applied_coupons (org_id, id),
    foreign key (org_id, invoice_id) references invoices (org_id, id)
);
create index coupon_uses_by_coupon on coupon_uses (org_id, applied_coupon_id);
