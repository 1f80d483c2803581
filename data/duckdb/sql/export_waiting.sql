-- How many events of which site lie in a stretch of the feed, and where the first of them is.
select events.site_id, count(*) as events, min(events.arrival) as first
from events
where events.arrival > $after and events.arrival <= $through
    and ($site_id::varchar is null or events.site_id = $site_id)
group by events.site_id
