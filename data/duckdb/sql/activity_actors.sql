-- Actors of each site's last minutes with the last second in which they did something, as far as
-- that was not known: it arrived since, or its time has come since.
with {known}
select known.query, events.actor, max({second}) as second
from events
join known on known.site_id = events.site_id
where events.occurred_at > $since
    and events.occurred_at <= $at
    and (events.arrival > $least_arrival or events.occurred_at > $least_at)
    and (events.arrival > known.arrival or events.occurred_at > known.at)
    and events.actor is not null
group by known.query, events.actor
