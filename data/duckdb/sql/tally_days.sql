-- Events and distinct actors of each site and local day, of what had arrived up to a place.
with {spans}
select spans.query, {local_day} as day, count(*) as events, count(distinct events.actor) as users
from events
join spans
    on events.site_id = spans.site_id
    and events.occurred_at >= spans.starts_at
    and events.occurred_at < spans.ends_at
where events.occurred_at >= $spans_earliest
    and events.occurred_at < $spans_latest
    and events.arrival <= $last_arrival
group by spans.query, day
