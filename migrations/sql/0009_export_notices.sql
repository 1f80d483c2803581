set local role footfall_owner;

-- What webhooks of destinations are told. `body` is what is sent and signed, the same at every
-- attempt; where it goes and by what secret it is signed, the destination says at that moment.
-- Whoever sends a notice holds it until `held_until` (by the ledger's clock), and counts that in
-- `hold_id`. One that was delivered or given up has no next attempt.
create table export_notices (
    notice_id uuid primary key,
    destination_id uuid not null references export_destinations on delete cascade,
    kind text collate "C" not null check (
        kind in (
            'export.succeeded', 'export.failed', 'export.paused', 'export.dead', 'export.test'
        )
    ),
    body text not null,
    created_at timestamptz not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    hold_id bigint not null default 0,
    held_until timestamptz,
    http_status integer,
    error text,
    delivered_at timestamptz,
    given_up_at timestamptz,
    check (num_nonnulls(next_attempt_at, delivered_at, given_up_at) = 1)
);
create index ix_export_notices_next_attempt_at on export_notices (next_attempt_at)
    where next_attempt_at is not null;
create index ix_export_notices_destination_id on export_notices (destination_id, created_at);
create index ix_export_notices_created_at on export_notices (created_at);

grant select, insert, update, delete on export_notices to footfall_writer;
grant select on export_notices to replica_user;
reset role;
