-- Distinct actors of the last $window days as seen on each day of the range and, where the day is
-- null, over the range's own days. The spans begin $window - 1 days before the range.
with {spans},
ranges as (
    select
        unnest($range_query::integer[]) as query,
        unnest($range_first_day::date[]) as first_day,
        unnest($range_last_day::date[]) as last_day
),
active as materialized (
    select distinct spans.query, {local_day} as day, events.actor
    from events
    join spans
        on events.site_id = spans.site_id
        and events.occurred_at >= spans.starts_at
        and events.occurred_at < spans.ends_at
    where events.occurred_at >= $spans_earliest
        and events.occurred_at < $spans_latest
        and events.actor is not null
        and {filter}
),
-- Whoever was active on a day is seen for $window days, or until the next day on which they were
-- active, from which that one counts: so nobody is seen twice on one day.
seen as (
    select
        query,
        day as since,
        least(
            day + $window::integer,
            coalesce(
                lead(day) over (partition by query, actor order by day),
                day + $window::integer
            )
        ) as until
    from active
),
changes as materialized (
    select query, day, sum(change) as change
    from (
        select query, since as day, 1 as change from seen
        union all
        select query, until as day, -1 as change from seen
    )
    group by query, day
),
days as (
    select query, unnest(generate_series(first_day, last_day, interval 1 day))::date as day
    from ranges
)
select days.query, days.day, sum(changes.change)::bigint as users
from days
join changes on changes.query = days.query and changes.day <= days.day
group by days.query, days.day
union all
select active.query, null as day, count(distinct active.actor) as users
from active
join ranges on ranges.query = active.query and active.day >= ranges.first_day
group by active.query
