-- What a part of an export holds, by UTC day: everything, and what passes the filter.
select
    events.occurred_at::date as day,
    count(*) as everything,
    bit_xor(events.event_id::uhugeint) as checksum_of_everything,
    count(*) filter (where {filter}) as taken,
    bit_xor(events.event_id::uhugeint) filter (where {filter}) as checksum_of_taken,
    min(events.occurred_at) filter (where {filter}) as first_at,
    max(events.occurred_at) filter (where {filter}) as last_at
from events
where events.site_id = $site_id
    and events.arrival > $after and events.arrival <= $through
    and {span}
group by day
order by day
