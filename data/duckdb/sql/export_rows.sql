-- The rows of a file. No `order by`: the copy has its events in order of arrival and gives them so,
-- while sorting a few million of them would hold them in memory.
copy (
    select {columns}
    from events
    where events.site_id = $site_id
        and events.arrival > $after and events.arrival <= $through
        and {span}
        and {filter}
)
to $path ({options})
