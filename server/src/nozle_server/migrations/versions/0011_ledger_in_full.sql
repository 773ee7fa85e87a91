-- Holds, receivables, budgets, and what an account is versioned by.

-- Raised by everything that changes what is decided over the account: its grants, holds and budgets, the status of its
-- entities, its customer's. A decision made on a copy of the account is written only if the version is still the copy's.
alter table credit_accounts
    add column version bigint not null default 0,
    add column held numeric(38, 12) not null default 0 check (held >= 0),
    add column refunded numeric(38, 12) not null default 0 check (refunded >= 0),
    add column adjusted numeric(38, 12) not null default 0,
    add column transferred numeric(38, 12) not null default 0,
    -- What was settled beyond hold and balance, and is still to be paid by a later grant: beside the balance, never in it.
    add column receivable numeric(38, 12) not null default 0 check (receivable >= 0),
    drop constraint credit_accounts_check,
    add constraint credit_accounts_check check
        (balance = granted + refunded + adjusted + transferred - consumed - expired - voided - held);

alter table credit_grants
    -- Whose it is: an entity's, or (null) the customer's.
    add column entity_id uuid,
    -- An allocated top-up: the customer's grant that it came from, and returns to.
    add column parent_id uuid,
    add foreign key (org_id, parent_id) references credit_grants (org_id, id),
    drop constraint credit_grants_source_check,
    add constraint credit_grants_source_check check (source in
        ('plan', 'manual', 'top_up', 'promotion', 'refund', 'rollover', 'adjustment', 'transfer', 'allocation'));

create index credit_grants_of_account on credit_grants (org_id, account_id, id);

alter table ledger_entries
    drop column entity_id,
    add column entity_id uuid,
    -- The hold that a `hold`, a `release` or a settling `deduct` is about; the entry that a `refund` gives back.
    add column hold_id uuid,
    add column refunds_id uuid,
    drop constraint ledger_entries_type_check,
    drop constraint ledger_entries_check,
    add constraint ledger_entries_type_check check (type in
        ('grant', 'deduct', 'expire', 'void', 'hold', 'release', 'refund', 'adjustment', 'transfer')),
    add constraint ledger_entries_amount_check check (amount <> 0 and case
        when type in ('grant', 'release', 'refund') then amount > 0
        when type in ('adjustment', 'transfer') then true
        else amount < 0 end),
    add foreign key (org_id, refunds_id) references ledger_entries (org_id, id);
-- What was left of a grant at its end is found by its account: allocations are found by their entry alone.
create index ledger_entries_expired on ledger_entries (org_id, account_id, occurred_at) where type = 'expire';
create index ledger_entries_refunds on ledger_entries (org_id, refunds_id) where refunds_id is not null;

-- Credits set aside for work under way. What is held is out of the balance: the entry `hold` took it.
create table credit_holds (
    org_id uuid not null,
    id uuid not null,
    account_id uuid not null,
    amount numeric(38, 12) not null check (amount > 0),
    feature text,
    entity_id uuid,
    status text not null default 'open' check (status in ('open', 'settled', 'released', 'expired')),
    -- What was taken when it was settled, what of that the balance did not cover; both 0 until then.
    settled numeric(38, 12) not null default 0 check (settled >= 0),
    uncovered numeric(38, 12) not null default 0 check (uncovered >= 0 and uncovered <= settled),
    -- Which grants it drew on, and the windows of budgets that it counts in.
    grant_ids uuid[] not null,
    drawn numeric(38, 12)[] not null,
    -- Whose grants settling beyond it draws on, in this order; null: the customer's.
    pools uuid[] not null,
    budget_ids uuid[] not null default '{}',
    budget_windows timestamptz[] not null default '{}',
    expires_at timestamptz not null,
    created_at timestamptz not null,
    ended_at timestamptz check ((ended_at is null) = (status = 'open')),
    primary key (org_id, id),
    foreign key (org_id, account_id) references credit_accounts (org_id, id)
);
create index credit_holds_of_account on credit_holds (org_id, account_id, id);
create index credit_holds_open on credit_holds (org_id, account_id, expires_at) where status = 'open';

create table credit_receivables (
    org_id uuid not null,
    id uuid not null,
    account_id uuid not null,
    hold_id uuid not null,
    amount numeric(38, 12) not null check (amount > 0),
    paid numeric(38, 12) not null default 0 check (paid >= 0 and paid <= amount),
    created_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, account_id) references credit_accounts (org_id, id),
    foreign key (org_id, hold_id) references credit_holds (org_id, id)
);
create index credit_receivables_open on credit_receivables (org_id, account_id, id) where paid < amount;

-- How much a customer, or one of its entities, may spend of an account within an interval; `run`: in all.
create table credit_budgets (
    org_id uuid not null,
    id uuid not null,
    account_id uuid not null,
    entity_id uuid,
    interval text not null check (interval in ('run', 'hour', 'day', 'month')),
    limit_amount numeric(38, 12) not null check (limit_amount >= 0),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, id),
    unique nulls not distinct (org_id, account_id, entity_id, interval),
    foreign key (org_id, account_id) references credit_accounts (org_id, id)
);
-- What was spent and is held within one window of a budget. More than the limit only by settling above a hold.
create table credit_budget_usage (
    org_id uuid not null,
    budget_id uuid not null,
    window_start timestamptz not null,
    used numeric(38, 12) not null check (used >= 0),
    primary key (org_id, budget_id, window_start),
    foreign key (org_id, budget_id) references credit_budgets (org_id, id) on delete cascade
);

-- Which process wrote a fact: it has heard of it already when it reads what the others wrote.
alter table outbox add column origin uuid;
