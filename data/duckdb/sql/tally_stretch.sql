-- Events and distinct actors of each site and UTC day, of what arrived between two places.
select site_id, occurred_at::date as day, count(*) as events, count(distinct actor) as users
from events
where arrival > $first_arrival and arrival <= $last_arrival
group by site_id, day
