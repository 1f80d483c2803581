-- Of the actors who started in a period: how many were active again k periods later or any time
-- after. Periods are numbered from the one in which the range begins; a row without k has the
-- size of the cohort.
with {range_spans},
{return_spans},
{origins},
{starts},
last_returns as (
    select spans.query, max({period}) as period, events.actor
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
    group by spans.query, events.actor
),
-- Whoever was last seen n periods after the start counts for every k up to n.
reached as (
    select
        starts.query,
        starts.period,
        least(last_returns.period - starts.period, $periods) as furthest,
        count(*) as users
    from starts
    join last_returns
        on last_returns.query = starts.query
        and last_returns.actor = starts.actor
        and last_returns.period >= starts.period
    group by starts.query, starts.period, furthest
)
select query, period, null as k, count(*) as users
from starts
group by query, period
union all
select reached.query, reached.period, later.k, sum(reached.users)::bigint as users
from reached
join (select unnest(range($periods + 1)) as k) as later on later.k <= reached.furthest
group by reached.query, reached.period, later.k
