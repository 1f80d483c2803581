-- Events of each site's last minutes by second and path, as far as they were not known: they
-- arrived since, or their time has come since.
with {known}
select known.query, {second} as second, events.path, count(*) as events
from events
join known on known.site_id = events.site_id
where events.occurred_at > $since
    and events.occurred_at <= $at
    and (events.arrival > $least_arrival or events.occurred_at > $least_at)
    and (events.arrival > known.arrival or events.occurred_at > known.at)
group by known.query, second, events.path
