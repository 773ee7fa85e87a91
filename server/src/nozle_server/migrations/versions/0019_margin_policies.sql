-- What a margin policy is of, and which of its versions holds; none after it was removed.
create table margin_policies (
    org_id uuid not null references organizations (id),
    id uuid not null,
    scope text not null check (scope in ('organization', 'plan', 'feature', 'customer')),
    plan_id uuid check ((scope = 'plan') = (plan_id is not null)),
    feature_id uuid check ((scope = 'feature') = (feature_id is not null)),
    customer_id uuid check ((scope = 'customer') = (customer_id is not null)),
    current_version_id uuid,
    primary key (org_id, id),
    foreign key (org_id, plan_id) references plans (org_id, id),
    foreign key (org_id, feature_id) references features (org_id, id),
    foreign key (org_id, customer_id) references customers (org_id, id)
);
create unique index margin_policies_one_each on margin_policies
    (org_id, scope, (coalesce(plan_id, feature_id, customer_id, org_id)));
create index margin_policies_of_customer on margin_policies (org_id, customer_id) where customer_id is not null;

-- Every version there ever was: which terms held from when on, and by whose key. `removed`: from then on, none.
-- Amounts are cents a use.
create table margin_policy_versions (
    org_id uuid not null,
    id uuid not null,
    policy_id uuid not null,
    version integer not null check (version > 0),
    removed boolean not null default false,
    minimum_margin_percent numeric check (minimum_margin_percent <= 100),
    minimum_margin_amount numeric,
    maximum_estimated_cost numeric check (maximum_estimated_cost >= 0),
    -- None: the organization's margin_enforcement.
    mode text check (mode in ('observe', 'warn', 'deny')),
    on_unavailable text not null default 'allow' check (on_unavailable in ('allow', 'deny')),
    maximum_snapshot_age_seconds integer check (maximum_snapshot_age_seconds >= 0),
    created_at timestamptz not null,
    created_by uuid,
    primary key (org_id, id),
    unique (org_id, policy_id, version),
    check (removed or coalesce(minimum_margin_percent, minimum_margin_amount, maximum_estimated_cost) is not null),
    foreign key (org_id, policy_id) references margin_policies (org_id, id),
    foreign key (org_id, created_by) references api_keys (org_id, id)
);
alter table margin_policies add foreign key (org_id, current_version_id)
    references margin_policy_versions (org_id, id) deferrable initially deferred;
create trigger append_only before update or delete on margin_policy_versions
    for each row execute function refuse_change();
create trigger no_truncate before truncate on margin_policy_versions execute function refuse_change();
