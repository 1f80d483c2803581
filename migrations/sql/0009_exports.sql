set local role footfall_owner;

-- Where the events of sites are exported to. `definition` is the destination as one JSON object
-- (data/exports/destination.py knows its fields); what statements need of it stands beside it.
-- `places` are all places that it ever had: each belongs to one destination for ever, also after
-- that was deleted, which leaves the row with `deleted_at`. `planned_through` is the position up to
-- which the chain of its runs was planned, `runs` how many runs there are.
-- Secrets are texts of the envelope; of the hook's token there is a hash.
create table export_destinations (
    destination_id uuid primary key,
    site_id text collate "C" not null references sites,
    name text not null,
    definition jsonb not null,
    places jsonb not null,
    client_secret text,
    backup_secret text,
    webhook_secret text,
    hook_hash bytea unique,
    credentials_at timestamptz,
    webhook_secret_at timestamptz,
    hook_at timestamptz,
    planned_through bigint not null default 0,
    runs bigint not null default 0,
    next_run_at timestamptz,
    -- A pause without a reason was asked for by somebody.
    paused_at timestamptz,
    paused_reason text,
    backup_paused_at timestamptz,
    backup_paused_reason text,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);
create index ix_export_destinations_site_id on export_destinations (site_id);

-- Runs, each fixed when it was planned: positions of the change feed in (after, through], and
-- instants in [since, until) where it is a backfill, beside the chain. `layout` is what it takes
-- and how it is written, as the destination said then, so that every try writes the same.
-- `through_at` is when the batch at `through` was committed, once the client's target is published:
-- a ledger that was put back to an earlier state has another one there, or none.
create table export_runs (
    run_id uuid primary key,
    sequence bigint generated always as identity unique,
    destination_id uuid not null references export_destinations,
    site_id text collate "C" not null,
    number bigint not null,
    trigger text collate "C" not null
        check (trigger in ('SCHEDULE', 'THRESHOLD', 'REQUEST', 'HOOK', 'COMMAND')),
    after bigint not null,
    through bigint not null check (through >= after),
    since timestamptz,
    until timestamptz,
    layout jsonb not null,
    begun_at timestamptz not null,
    through_at timestamptz,
    unique (destination_id, number)
);
create index ix_export_runs_destination_id on export_runs (destination_id, sequence);
create index ix_export_runs_site_id on export_runs (site_id, sequence);

-- A run writes one or two targets, each by itself. A process that is at it holds the target until
-- `held_until` (by the ledger's clock) and renews that; `hold_id` counts the claims and stands in
-- the names of files, so that a process that was frozen meanwhile spoils nothing of another's.
-- `next_attempt_at` is null where nothing happens by itself. `attempts` are counted from the last
-- time on that somebody asked for another one.
create table export_targets (
    run_id uuid not null references export_runs,
    target text collate "C" not null check (target in ('client', 'backup')),
    destination_id uuid not null references export_destinations,
    place jsonb not null,
    status text collate "C" not null default 'PENDING'
        check (status in ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'DEAD')),
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    hold_id bigint not null default 0,
    held_until timestamptz,
    held_by text,
    started_at timestamptz,
    finished_at timestamptz,
    reason text collate "C",
    error text,
    progress jsonb,
    manifest_name text,
    events bigint,
    bytes bigint,
    files integer,
    manifest jsonb,
    primary key (run_id, target)
);
-- Those that are done are by far the most, and nobody looks for them.
create index ix_export_targets_open on export_targets (destination_id, target, status)
    where status <> 'SUCCEEDED';

grant select, insert, update on export_destinations, export_runs, export_targets
    to footfall_writer;
-- Everything but the secrets and what is known of the hook's token.
grant select (
    destination_id, site_id, name, definition, places, credentials_at, webhook_secret_at, hook_at,
    planned_through, runs, next_run_at, paused_at, paused_reason, backup_paused_at,
    backup_paused_reason, version, created_at, updated_at, deleted_at
) on export_destinations to replica_user;
grant select on export_runs, export_targets to replica_user;
reset role;
