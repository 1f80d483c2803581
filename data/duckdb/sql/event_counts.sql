-- Number of events of each question per period.
with {spans}
select spans.query, {period} as period, count(*) as events
from events
join spans
    on events.site_id = spans.site_id
    and events.occurred_at >= spans.starts_at
    and events.occurred_at < spans.ends_at
where events.occurred_at >= $spans_earliest
    and events.occurred_at < $spans_latest
    and {filter}
group by spans.query, period
