-- What arrived behind a place, in order of arrival. Each event has a flag per question that it
-- answers, so one that several wait for is read once.
select *
from (
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
        events.arrival,
        {flags}
    from events
    where events.arrival > $after
) as new
where {any}
order by arrival
limit $most
