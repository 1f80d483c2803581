set local role footfall_owner;

-- External data, and where it comes from. `definition` is the whole source as one JSON object
-- (data/sources/source.py knows its fields); what statements need of it stands beside it.
-- `version` goes up whenever the definition changes.
create table sources (
    source_key text collate "C" primary key,
    site_id text collate "C" references sites,
    definition jsonb not null,
    is_declared boolean not null,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

-- How each source fares: one row for each, written at the beginning and the end of a refresh.
-- `refresh_id` counts the refreshes that were begun. One that is under way holds the source until
-- `held_until` (by the ledger's clock) and renews that; what it commits has to be of the newest
-- `refresh_id`, so that a process that was frozen meanwhile changes nothing (see decision 31).
create table source_states (
    source_key text collate "C" primary key references sources on delete cascade,
    refresh_id bigint not null default 0,
    held_until timestamptz,
    held_by text,
    started_at timestamptz,
    progress jsonb,
    next_attempt_at timestamptz not null,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    -- The newest refresh that saw the whole set: every record that has not vanished was in it.
    last_complete_at timestamptz,
    records bigint not null default 0,
    breaker text not null default 'closed' check (breaker in ('closed', 'open', 'half_open')),
    failures integer not null default 0,
    opened_at timestamptz,
    -- What a conditional request is made with; only good for the definition of this version.
    validators jsonb,
    validators_version bigint
);
create index ix_source_states_next_attempt_at on source_states (next_attempt_at);

-- The newest content of each record. `seen_at` moves when a record is written and when a refresh
-- saw only a part of the set; after a complete one, the state's `last_complete_at` says it for all.
-- `content_hash` covers the content whatever the order of its fields.
create table source_records (
    record_id bigint generated always as identity primary key,
    source_key text collate "C" not null references sources on delete cascade,
    external_id text collate "C" not null,
    data json not null,
    content_hash bytea not null,
    first_seen_at timestamptz not null,
    seen_at timestamptz not null,
    changed_at timestamptz not null,
    vanished_at timestamptz,
    unique (source_key, external_id)
);
create index ix_source_records_changed_at on source_records (changed_at, record_id);
create index ix_source_records_source_key on source_records (source_key, changed_at, record_id);

-- What became of records, in order; `data` is the content from then on, null where it vanished.
create table source_changes (
    change_id bigint generated always as identity primary key,
    record_id bigint not null references source_records on delete cascade,
    at timestamptz not null,
    kind text collate "C" not null check (kind in ('added', 'changed', 'vanished', 'returned')),
    data json
);
create index ix_source_changes_record_id on source_changes (record_id, change_id);
create index ix_source_changes_at on source_changes (at);

-- One row for each attempt to refresh a source, also for those that were not made.
create table source_audits (
    audit_id bigint generated always as identity primary key,
    source_key text collate "C" not null references sources on delete cascade,
    refresh_id bigint not null,
    started_at timestamptz not null,
    duration_ms integer not null,
    tries integer not null,
    pages integer not null,
    outcome text collate "C" not null
        check (outcome in ('SUCCESS', 'FAILURE', 'SKIPPED_BREAKER_OPEN')),
    http_status integer,
    is_complete boolean not null,
    seen integer not null,
    added integer not null,
    changed integer not null,
    vanished integer not null,
    bytes bigint not null,
    error text
);
create index ix_source_audits_source_key on source_audits (source_key, audit_id);
create index ix_source_audits_started_at on source_audits (started_at);
-- Those that did not go well are few, and asked for more often than the others.
create index ix_source_audits_troubled on source_audits (audit_id) where outcome <> 'SUCCESS';

grant select, insert, update, delete on sources, source_states, source_records to footfall_writer;
grant select, insert, delete on source_changes, source_audits to footfall_writer;
grant select on sources, source_states, source_records, source_changes, source_audits
    to replica_user;
reset role;
