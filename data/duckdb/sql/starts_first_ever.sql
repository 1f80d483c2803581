-- Each actor's first matching event in all history, if it lies in the range.
first_events as (
    select events.site_id, events.actor, min(events.occurred_at) as occurred_at
    from events
    where events.site_id in (select site_id from range_spans)
        and events.occurred_at < $range_spans_latest
        and events.actor is not null
        and {filter}
    group by events.site_id, events.actor
),
starts as materialized (
    select spans.query, {period} as period, events.actor
    from first_events as events
    join range_spans as spans
        on events.site_id = spans.site_id
        and events.occurred_at >= spans.starts_at
        and events.occurred_at < spans.ends_at
    join origins on origins.query = spans.query
)
