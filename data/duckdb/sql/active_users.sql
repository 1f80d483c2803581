-- Distinct actors of each question per period and, where the period is null, over the whole range.
with {spans},
active as materialized (
    select distinct spans.query, {period} as period, events.actor
    from events
    join spans
        on events.site_id = spans.site_id
        and events.occurred_at >= spans.starts_at
        and events.occurred_at < spans.ends_at
    where events.occurred_at >= $spans_earliest
        and events.occurred_at < $spans_latest
        and events.actor is not null
        and {filter}
)
select query, period, count(*) as users
from active
group by query, period
union all
select query, null as period, count(distinct actor) as users
from active
group by query
