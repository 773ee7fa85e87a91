-- Secrets that the server made for itself, such as the one that signs realtime tokens.
create table server_secrets (
    name text primary key,
    secret bytea not null,
    created_at timestamptz not null
);

alter table organizations add column workspace_channel_for_publishable_keys boolean not null default false;

-- Unlogged: after a crash of the database they are empty, every channel begins a new epoch, and clients fetch anew.
create unlogged table realtime_channels (
    org_id uuid not null,
    name text not null,
    -- The key of its watch on usage: the customer's id, or `*`; none while there is no such customer.
    watch_key text,
    epoch text not null,
    last_position bigint not null default 0 check (last_position >= 0),
    touched_at timestamptz not null,
    primary key (org_id, name)
);
create index realtime_channels_by_watch on realtime_channels (org_id, watch_key);
create index realtime_channels_by_age on realtime_channels (touched_at);

create unlogged table realtime_publications (
    org_id uuid not null,
    channel text not null,
    position bigint not null check (position > 0),
    data bytea not null,
    primary key (org_id, channel, position),
    foreign key (org_id, channel) references realtime_channels (org_id, name) on delete cascade
);

-- What was last told of a customer's feature.
create unlogged table realtime_told (
    org_id uuid not null,
    -- The customer's channel.
    channel text not null,
    feature text not null,
    told jsonb not null,
    told_at timestamptz not null,
    primary key (org_id, channel, feature),
    foreign key (org_id, channel) references realtime_channels (org_id, name) on delete cascade
);
