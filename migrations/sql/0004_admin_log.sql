set local role footfall_owner;

-- What administrators did, in order of commit and without gaps. Each entry holds the hash of the
-- one before, and its own covers that: see docs/decisions/0029. `details` is text and not JSON, so
-- that what was hashed is what is kept. Site ids refer to nothing: the log outlives what it is of.
create table admin_log (
    position bigint primary key check (position > 0),
    at timestamptz not null,
    actor_key_id text collate "C" not null,
    actor_name text not null,
    site_id text collate "C",
    action text collate "C" not null,
    target text not null,
    details text not null,
    previous_hash text collate "C" not null,
    hash text collate "C" not null
);
create index ix_admin_log_site_id on admin_log (site_id, position);
create index ix_admin_log_action on admin_log (action, position);

create function refuse_change_of_admin_log() returns trigger
language plpgsql as $$
begin
    raise exception 'the admin log is only ever added to' using errcode = 'restrict_violation';
end
$$;
revoke execute on function refuse_change_of_admin_log() from public;

create trigger admin_log_is_only_added_to
before update or delete or truncate on admin_log
for each statement execute function refuse_change_of_admin_log();
-- Also where triggers are left out, as in a session that replicates.
alter table admin_log enable always trigger admin_log_is_only_added_to;

-- The writer reads it, too, as it needs the newest hash; replica_user gets nothing.
grant select, insert on admin_log to footfall_writer;
reset role;
