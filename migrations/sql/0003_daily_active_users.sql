set local role footfall_owner;

-- Who was active on which local day of which site. Filled from the change feed, batch by batch;
-- nothing here is known nowhere else, so it may be emptied and filled anew (see decision 22).
-- An actor has 512 characters at most, which fits into an index even if each takes four bytes.
create table actor_days (
    site_id text collate "C" not null,
    day date not null,
    actor text collate "C" not null,
    primary key (site_id, day, actor)
);

-- By whose clock the rows of a site were filled. Where that changes they are filled anew:
-- `refilled_to` is the position up to which that has come, -1 while old rows are still there, and
-- null where the rows of the site are whole.
create table daily_users_sites (
    site_id text collate "C" primary key,
    timezone text not null,
    refilled_to bigint
);

-- One row: how far actor_days and the view are; both move in one transaction. Every event that was
-- committed before `through` belongs to a position up to `position`.
create table daily_users_state (
    only_row boolean primary key default true check (only_row),
    position bigint not null default 0,
    through timestamptz not null default to_timestamp(0),
    refreshed_at timestamptz,
    refresh_seconds double precision not null default 0
);
insert into daily_users_state default values;

create materialized view daily_active_users as
select actor_days.site_id, actor_days.day, count(*) as users
from actor_days
join daily_users_sites using (site_id)
where daily_users_sites.refilled_to is null
group by actor_days.site_id, actor_days.day;
create unique index ix_daily_active_users on daily_active_users (site_id, day);

-- Only the owner may refresh a view. Readers go on with the old rows meanwhile.
create function refresh_daily_active_users() returns bigint
language plpgsql volatile security definer set search_path = public as $$
begin
    refresh materialized view concurrently daily_active_users;
    return (select count(*) from daily_active_users);
end
$$;

revoke execute on function refresh_daily_active_users() from public;
grant execute on function refresh_daily_active_users() to footfall_writer;
grant select, insert, delete on actor_days to footfall_writer;
grant select, insert, update on daily_users_sites to footfall_writer;
grant select, update on daily_users_state to footfall_writer;
grant select on daily_active_users to footfall_writer, replica_user;
grant select on actor_days, daily_users_sites, daily_users_state to replica_user;
reset role;
