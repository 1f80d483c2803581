-- The rows of a file. The copy has its events in order of arrival and gives them so. They are sorted
-- only where the filter joins them with a list, which mixes them up.
copy (
    select {columns}
    from events
    where events.site_id = $site_id
        and events.arrival > $after and events.arrival <= $through
        and {span}
        and {filter}
    {order}
)
to $path ({options})
