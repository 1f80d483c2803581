-- The UTC days on which events have come in behind a place in the order of arrival, by their ordinal
-- as Python counts it, each with the last position in the change feed that brought some.
select
    site_id,
    (occurred_at::date - date '0001-01-01')::integer + 1 as day,
    max(arrival) // 65536 as position
from events
where arrival > $after
group by site_id, day
