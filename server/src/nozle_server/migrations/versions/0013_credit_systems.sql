-- Credit systems, rates, and what plans grant of them.

-- Raised in every transaction that changes the organization's credit systems or their features: what remembers them
-- compares it.
alter table organizations add column credits_version bigint not null default 0;

create table credit_systems (
    org_id uuid not null references organizations (id),
    id uuid not null,
    code text not null check (code <> ''),
    name text not null,
    description text,
    unit_name text not null check (unit_name <> ''),
    status text not null default 'active' check (status in ('active', 'archived')),
    -- Labels whose check-and-deduct draws on this system when it names none. What is archived has none.
    features text[] not null default '{}' check (status = 'active' or features = '{}'),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (org_id, id),
    unique (org_id, code)
);

-- A label belongs to one system at most: kept in step with `features` by the trigger below, so that the key decides.
create table credit_system_features (
    org_id uuid not null,
    feature text not null,
    credit_system_id uuid not null,
    primary key (org_id, feature),
    foreign key (org_id, credit_system_id) references credit_systems (org_id, id)
);
create index credit_system_features_of on credit_system_features (org_id, credit_system_id);
create function keep_credit_system_features() returns trigger language plpgsql as $$
begin
    delete from credit_system_features where org_id = new.org_id and credit_system_id = new.id;
    insert into credit_system_features (org_id, feature, credit_system_id)
        select new.org_id, feature, new.id from unnest(new.features) as feature;
    return null;
end $$;
create trigger features_belong_to_one_system after insert or update of features on credit_systems
    for each row execute function keep_credit_system_features();

insert into credit_systems (org_id, id, code, name, unit_name, created_at, updated_at)
    select id, gen_random_uuid(), 'credits', 'Credits', 'credits', created_at, created_at from organizations;

-- What a metric's units cost in a system, and when. A version that was replaced before it began holds for no time at all
-- (from = to), and is kept.
create type uuidrange as range (subtype = uuid);
create table credit_rates (
    org_id uuid not null,
    id uuid not null,
    credit_system_id uuid not null,
    metric_id uuid not null,
    metric_amount numeric(38, 12) not null check (metric_amount > 0),
    credit_amount numeric(38, 12) not null check (credit_amount > 0),
    effective_from timestamptz not null,
    effective_to timestamptz check (effective_to >= effective_from),
    created_at timestamptz not null,
    primary key (org_id, id),
    foreign key (org_id, credit_system_id) references credit_systems (org_id, id),
    foreign key (org_id, metric_id) references billable_metrics (org_id, id),
    -- Two rates never hold at once. Ranges of one id stand for the id: equality in GiST would need an extension.
    constraint credit_rates_one_at_a_time exclude using gist (
        uuidrange(org_id, org_id, '[]') with &&,
        uuidrange(metric_id, metric_id, '[]') with &&,
        uuidrange(credit_system_id, credit_system_id, '[]') with &&,
        tstzrange(effective_from, effective_to) with &&
    )
);
create index credit_rates_of_metric on credit_rates (org_id, metric_id, effective_from);

-- What held stays as it was: a version is only ever closed, or closed earlier, and never removed.
create function refuse_rewriting_rate() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' or (to_jsonb(new) - 'effective_to') <> (to_jsonb(old) - 'effective_to')
        or coalesce(new.effective_to, 'infinity') > coalesce(old.effective_to, 'infinity') then
        raise exception 'rates are kept: another version follows' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger never_rewritten before update or delete on credit_rates
    for each row execute function refuse_rewriting_rate();

-- What a version of a plan grants beside `credits`, and how much of `credits` is carried into the next period.
alter table plan_versions
    add column credit_grants jsonb not null default '[]',
    add column rollover jsonb;
