-- Who may be listening at a Centrifugo of the merchant's: which channels tokens were handed out for, and until when the last of
-- them lives. Logged, unlike the channels' histories: clients stay connected there while this database comes back.
create table realtime_audiences (
    org_id uuid not null,
    channel text not null,
    until timestamptz not null,
    primary key (org_id, channel),
    foreign key (org_id) references organizations (id)
);
create index realtime_audiences_by_age on realtime_audiences (until);

-- What one process at a time may do, and which does: it renews its lease, or another takes it.
create table server_leases (
    name text primary key,
    holder uuid not null,
    until timestamptz not null
);

create index api_keys_by_revocation on api_keys (revoked_at) where revoked_at is not null;
