-- What arrived behind a place, in order of arrival. Each event has a flag per question that it
-- answers, so one that several wait for is read once.
select *
from (
    select
        {columns},
        {flags}
    from events
    where events.arrival > $after
) as new
where {any}
order by arrival
limit $most
