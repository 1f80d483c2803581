-- The last UTC days before one on which anything happened, newest first.
select distinct occurred_at::date as day
from events
where occurred_at < $before
order by day desc
limit $most
