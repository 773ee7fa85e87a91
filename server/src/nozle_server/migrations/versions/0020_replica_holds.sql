-- Which hold stands behind what a replica may give away of a feature while it is cut off: one at a time.
create table replica_holds (
    org_id uuid not null,
    customer_id uuid not null,
    -- The merchant's name of the process.
    replica_id text not null,
    feature text not null,
    hold_id uuid not null,
    -- The snapshot that last told of it, and how much of it that promised: what is held may be more, for an older one.
    snapshot_id uuid not null,
    promised numeric(38, 12) not null check (promised >= 0),
    -- The one that was last reported on, and all that was taken for it: of a later report on it only what is more is new.
    reported_id uuid,
    reported numeric(38, 12) not null default 0 check (reported >= 0),
    -- Real time, also of organizations on a test clock.
    renewed_at timestamptz not null,
    primary key (org_id, customer_id, replica_id, feature),
    unique (org_id, hold_id),
    foreign key (org_id, customer_id) references customers (org_id, id),
    foreign key (org_id, hold_id) references credit_holds (org_id, id)
);
create index replica_holds_by_age on replica_holds (renewed_at);
