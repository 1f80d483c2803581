-- The most frequent event types of each question; a row without a type has the number of all events.
with {spans},
counted as materialized (
    select
        spans.query,
        events.event_type,
        count(*) as events,
        count(distinct events.actor) as users
    from events
    join spans
        on events.site_id = spans.site_id
        and events.occurred_at >= spans.starts_at
        and events.occurred_at < spans.ends_at
    where events.occurred_at >= $spans_earliest
        and events.occurred_at < $spans_latest
        and {filter}
    group by spans.query, events.event_type
),
first as (
    select query, event_type, events, users
    from counted
    qualify row_number() over (partition by query order by events desc, event_type) <= $limit
)
select query, event_type, events, users
from first
union all
select query, null as event_type, sum(events)::bigint as events, null as users
from counted
group by query
order by query, events desc, event_type
