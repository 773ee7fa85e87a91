-- Entities: teams, users, agents and runs of a customer. A deleted one stays, and what is made under its external id
-- later is another entity, which inherits nothing.
create table entities (
    org_id uuid not null references organizations (id),
    id uuid not null,
    customer_id uuid not null,
    -- The entities of a customer in the order they were made: of several with one external id the last counts.
    number bigint not null check (number > 0),
    external_id text not null check (external_id <> ''),
    name text,
    status text not null check (status in ('active', 'suspended', 'deleted')),
    metadata jsonb not null check (jsonb_typeof(metadata) = 'object'),
    parent_id uuid,
    pool_policy text not null check (pool_policy in ('entity_only', 'entity_then_customer', 'customer_only')),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    primary key (org_id, id),
    unique (org_id, customer_id, number),
    -- For the key below: a parent is an entity of the same customer.
    unique (org_id, customer_id, id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, customer_id, parent_id) references entities (org_id, customer_id, id),
    check (parent_id <> id),
    check ((status = 'deleted') = (deleted_at is not null))
);
create unique index entities_external_id on entities (org_id, customer_id, external_id) where deleted_at is null;
create index entities_latest on entities (org_id, customer_id, external_id, number);
create index entities_by_status on entities (org_id, customer_id, status, number);
create index entities_of_parent on entities (org_id, customer_id, parent_id) where deleted_at is null;

create function refuse_reviving_entity() returns trigger language plpgsql as $$
begin
    if tg_op <> 'UPDATE' then
        raise exception 'entities are never removed' using errcode = 'restrict_violation';
    end if;
    if old.deleted_at is not null
        or (new.org_id, new.id, new.customer_id, new.number, new.external_id, new.created_at)
            is distinct from (old.org_id, old.id, old.customer_id, old.number, old.external_id, old.created_at) then
        raise exception 'a deleted entity stays as it was, and no entity becomes another'
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger never_revived before update or delete on entities for each row execute function refuse_reviving_entity();
create trigger no_truncate before truncate on entities execute function refuse_reviving_entity();
