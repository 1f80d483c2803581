-- How many events of a site lie where in the order of arrival.
select (events.arrival - $after - 1) // $width as stack, count(*) as events
from events
where events.site_id = $site_id
    and events.arrival > $after and events.arrival <= $through
    and {span}
group by stack
order by stack
