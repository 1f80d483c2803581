-- Which ledger this is: a columnar copy remembers whose copy it is.
create table ledger (
    only_row boolean primary key default true check (only_row),
    ledger_id uuid not null default gen_random_uuid(),
    created_at timestamptz not null default now()
);
insert into ledger default values;

create table sites (
    site_id text collate "C" primary key,
    name text not null,
    timezone text not null,
    week_start text not null,
    origins text[] not null,
    created_at timestamptz not null
);

create table api_keys (
    key_id text collate "C" primary key,
    secret_hash bytea not null,
    name text not null,
    site_id text collate "C" references sites (site_id),
    scopes text[] not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- Every id that was ever accepted, for ever and apart from the events: a unique key on a table
-- that is partitioned by time would have to contain the time, and would leave with a partition.
create table event_ids (
    event_id uuid not null,
    site_id text collate "C" not null,
    primary key (event_id, site_id)
);

-- Partitioned by the time of arrival: it only moves forward, so partitions can be made ahead of
-- need, whatever past the events speak of.
create table events (
    batch_id bigint not null,
    ordinal smallint not null,
    site_id text collate "C" not null,
    event_id uuid not null,
    event_type text not null,
    occurred_at timestamptz not null,
    received_at timestamptz not null,
    user_id text,
    visitor_id text,
    session_id text,
    url text,
    path text,
    referrer text,
    properties json
) partition by range (received_at);
create index ix_events_batch_id on events (batch_id);

-- The change feed: one row for each commit that brought events. Positions follow commit order.
create table ingest_batches (
    position bigint primary key,
    batch_id bigint not null unique,
    events integer not null,
    committed_at timestamptz not null
);
create sequence batch_ids as bigint;

create table rejected_events (
    rejected_id bigint generated always as identity primary key,
    site_id text collate "C" not null,
    event_id uuid,
    code text not null,
    message text not null,
    payload text not null,
    payload_bytes integer not null,
    received_at timestamptz not null
);
create index ix_rejected_events_event_id on rejected_events (event_id, site_id);

-- Secrets of one UTC day each, from which visitor ids are derived; destroyed after 48 hours.
create table visitor_salts (
    day date primary key,
    salt bytea not null
);
