-- Single events, newest first.
select
    {columns}
from events
where events.site_id = $site_id
    and {days}
    and {actor}
    and {after}
    and {filter}
order by events.occurred_at desc, events.arrival desc
limit $first
