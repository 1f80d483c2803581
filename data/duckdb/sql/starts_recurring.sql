-- Every period of the range in which an actor has a matching event on a day of the range.
starts as materialized (
    select distinct spans.query, {period} as period, events.actor
    from events
    join range_spans as spans
        on events.site_id = spans.site_id
        and events.occurred_at >= spans.starts_at
        and events.occurred_at < spans.ends_at
    join origins on origins.query = spans.query
    where events.occurred_at >= $range_spans_earliest
        and events.occurred_at < $range_spans_latest
        and events.actor is not null
        and {filter}
)
