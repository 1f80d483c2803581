-- What a part of an export holds, by UTC day: everything, and what passes the filter.
select
    day,
    count(*) as everything,
    bit_xor(id) as checksum_of_everything,
    count(*) filter (where passes) as taken,
    bit_xor(id) filter (where passes) as checksum_of_taken,
    min(occurred_at) filter (where passes) as first_at,
    max(occurred_at) filter (where passes) as last_at
from (
    select
        events.occurred_at::date as day,
        events.event_id::uhugeint as id,
        events.occurred_at as occurred_at,
        {filter} as passes
    from events
    where events.site_id = $site_id
        and events.arrival > $after and events.arrival <= $through
        and {span}
) as chosen
group by day
order by day
