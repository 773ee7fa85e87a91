-- Monetary wallets, over the one ledger: each has an account of kind `money`, which holds major units of its currency.
alter table credit_accounts
    add column kind text not null default 'credits' check (kind in ('credits', 'money')),
    add column voided numeric(38, 12) not null default 0,
    drop constraint credit_accounts_check,
    add constraint credit_accounts_check check (balance = granted - consumed - expired - voided);
alter table ledger_entries
    drop constraint ledger_entries_type_check,
    add constraint ledger_entries_type_check check (type in ('grant', 'deduct', 'expire', 'void'));
alter table credit_grants
    drop constraint credit_grants_source_check,
    add constraint credit_grants_source_check check (source in ('plan', 'manual', 'top_up', 'promotion', 'refund'));

create table wallets (
    org_id uuid not null references organizations (id),
    id uuid not null,
    customer_id uuid not null,
    account_id uuid not null,
    code text not null check (code <> ''),
    name text,
    priority smallint not null check (priority between 1 and 50),
    -- Money per credit, in major units; fixed, as the credits that a wallet shows are its money divided by it.
    rate_amount numeric(38, 12) not null check (rate_amount > 0),
    currency text not null,
    status text not null check (status in ('active', 'terminated')),
    invoice_requires_successful_payment boolean not null,
    paid_top_up_min_amount_cents bigint check (paid_top_up_min_amount_cents > 0),
    paid_top_up_max_amount_cents bigint check (paid_top_up_max_amount_cents > 0),
    -- What the wallet may pay for: all, when both are empty.
    fee_types text[] not null default '{}',
    metric_ids uuid[] not null default '{}',
    metadata jsonb,
    -- What invoices and voids took, less what voided invoices gave back; major units.
    consumed_amount numeric(38, 12) not null default 0 check (consumed_amount >= 0),
    expiration_at timestamptz,
    last_synced_at timestamptz,
    last_consumed_credit_at timestamptz,
    terminated_at timestamptz check ((terminated_at is not null) = (status = 'terminated')),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, account_id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, account_id) references credit_accounts (org_id, id)
);
create unique index wallets_code on wallets (org_id, customer_id, code) where status = 'active';
create index wallets_by_customer on wallets (org_id, customer_id, created_at);

create table wallet_transactions (
    org_id uuid not null,
    id uuid not null,
    wallet_id uuid not null,
    transaction_type text not null check (transaction_type in ('inbound', 'outbound')),
    transaction_status text not null check (transaction_status in ('purchased', 'granted', 'voided', 'invoiced')),
    status text not null check (status in ('pending', 'settled', 'failed')),
    source text not null check (source in ('manual', 'interval', 'threshold')),
    -- Major units, exact, and the same in credits (a quotient, to 12 places).
    amount numeric(38, 12) not null check (amount > 0),
    credit_amount numeric(38, 12) not null check (credit_amount >= 0),
    priority smallint not null check (priority between 1 and 50),
    name text,
    metadata jsonb not null default '[]',
    invoice_requires_successful_payment boolean not null,
    -- The invoice that sells an inbound one, or that an outbound one pays.
    invoice_id uuid,
    voided_invoice_id uuid,
    credit_note_id uuid,
    -- What it did in the ledger: the grant of an inbound one, the entry of either; null until it is settled.
    grant_id uuid,
    entry_id uuid,
    settled_at timestamptz,
    failed_at timestamptz,
    created_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, grant_id),
    unique (org_id, entry_id),
    check ((transaction_type = 'inbound') = (transaction_status in ('purchased', 'granted'))),
    check ((status = 'settled') = (entry_id is not null) and (status = 'settled') = (settled_at is not null)),
    check ((grant_id is not null) = (status = 'settled' and transaction_type = 'inbound')),
    foreign key (org_id, wallet_id) references wallets (org_id, id),
    foreign key (org_id, grant_id) references credit_grants (org_id, id),
    foreign key (org_id, entry_id) references ledger_entries (org_id, id),
    -- Deferred: wallets are applied while the invoice is being made.
    foreign key (org_id, invoice_id) references invoices (org_id, id) deferrable initially deferred,
    foreign key (org_id, voided_invoice_id) references invoices (org_id, id)
);
create index wallet_transactions_by_wallet on wallet_transactions (org_id, wallet_id, created_at desc, id desc);
create index wallet_transactions_by_invoice on wallet_transactions (org_id, invoice_id) where invoice_id is not null;
-- A wallet pays an invoice once, and is given back what it paid once.
create unique index wallet_transactions_one_use on wallet_transactions (org_id, invoice_id, wallet_id)
    where transaction_status = 'invoiced';
create unique index wallet_transactions_one_return on wallet_transactions (org_id, voided_invoice_id, wallet_id)
    where voided_invoice_id is not null;

create function refuse_rewriting_wallet_transaction() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or old.status <> 'pending' or new.status = 'pending' and new.invoice_id is not distinct from old.invoice_id
        or to_jsonb(new) - array['status', 'invoice_id', 'grant_id', 'entry_id', 'settled_at', 'failed_at']
            <> to_jsonb(old) - array['status', 'invoice_id', 'grant_id', 'entry_id', 'settled_at', 'failed_at'] then
        raise exception 'a wallet transaction is never rewritten' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger never_rewritten before update or delete on wallet_transactions
    for each row execute function refuse_rewriting_wallet_transaction();

create table wallet_recurring_rules (
    org_id uuid not null,
    id uuid not null,
    wallet_id uuid not null,
    trigger text not null check (trigger in ('interval', 'threshold')),
    method text not null check (method in ('fixed', 'target')),
    status text not null check (status in ('active', 'terminated')),
    interval text check (interval in ('weekly', 'monthly', 'quarterly', 'semiannual', 'yearly')),
    paid_credits numeric(38, 12) not null check (paid_credits >= 0),
    granted_credits numeric(38, 12) not null check (granted_credits >= 0),
    threshold_credits numeric(38, 12) not null,
    target_ongoing_balance numeric(38, 12),
    invoice_requires_successful_payment boolean not null,
    ignore_paid_top_up_limits boolean not null,
    transaction_name text,
    transaction_metadata jsonb not null default '[]',
    started_at timestamptz,
    expiration_at timestamptz,
    -- When an interval rule tops up next; a due item for any other instant is out of date.
    next_top_up_at timestamptz,
    terminated_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, id),
    check ((trigger = 'interval') = (interval is not null)),
    check (method = 'fixed' or target_ongoing_balance is not null),
    foreign key (org_id, wallet_id) references wallets (org_id, id)
);
create unique index wallet_recurring_rules_one on wallet_recurring_rules (org_id, wallet_id) where status = 'active';
