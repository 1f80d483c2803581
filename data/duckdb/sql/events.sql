-- Single events, newest first.
select
    events.event_id,
    events.site_id,
    events.event_type,
    events.occurred_at,
    events.received_at,
    events.user_id,
    events.visitor_id,
    events.session_id,
    events.url,
    events.path,
    events.referrer,
    events.properties,
    events.arrival
from events
where events.site_id = $site_id
    and {days}
    and {actor}
    and {after}
    and {filter}
order by events.occurred_at desc, events.arrival desc
limit $first
