-- Of the actors who started in a period: how many were active again k periods later. Periods are
-- numbered from the one in which the range begins; a row without k has the size of the cohort.
with {range_spans},
{return_spans},
{origins},
{starts},
returns as (
    select distinct spans.query, {period} as period, events.actor
    from events
    join return_spans as spans
        on events.site_id = spans.site_id
        and events.occurred_at >= spans.starts_at
        and events.occurred_at < spans.ends_at
    join origins on origins.query = spans.query
    where events.occurred_at >= $return_spans_earliest
        and events.occurred_at < $return_spans_latest
        and events.actor is not null
        and {returning}
)
select query, period, null as k, count(*) as users
from starts
group by query, period
union all
select starts.query, starts.period, returns.period - starts.period as k, count(*) as users
from starts
join returns on returns.query = starts.query and returns.actor = starts.actor
where returns.period between starts.period and starts.period + $periods
group by starts.query, starts.period, k
