-- Events, actors and the first paths of each site within a stretch of time: one row per site and
-- path, and one without a rank for the site as a whole.
with recent as materialized (
    select site_id, actor, path
    from events
    where occurred_at > $since
        and occurred_at <= $at
        and site_id in (select unnest($site_ids::varchar[]))
),
by_actor as (
    select site_id, actor, count(*) as events
    from recent
    group by site_id, actor
),
by_path as (
    select
        site_id,
        path,
        row_number() over (partition by site_id order by count(*) desc, path) as rank
    from recent
    where path is not null
    group by site_id, path
)
select site_id, null as rank, null as path, sum(events)::bigint as events, count(actor) as users
from by_actor
group by site_id
union all
select site_id, rank, path, null as events, null as users
from by_path
where rank <= $most_paths
order by site_id, rank
