-- Times are UTC. No keys and no indexes: the ledger sees to it that an event comes once, and
-- reports read ranges of columns, which the zone maps of the file serve.
create table events (
    site_id varchar not null,
    event_id uuid not null,
    event_type varchar not null,
    occurred_at timestamp not null,
    received_at timestamp not null,
    -- Who counts as a user: user_id, else visitor_id.
    actor varchar,
    user_id varchar,
    visitor_id varchar,
    session_id varchar,
    url varchar,
    path varchar,
    referrer varchar,
    -- The JSON text of an object.
    properties varchar,
    -- The place in the order of arrival: position in the change feed and place in the batch.
    arrival bigint not null
);

-- One row. The watermark (the last three) is null as long as the copy is empty.
create table copy_state (
    format_version integer not null,
    ledger_id varchar not null,
    position bigint,
    batch_id bigint,
    -- Microseconds since 1970, UTC.
    committed_at bigint
);
