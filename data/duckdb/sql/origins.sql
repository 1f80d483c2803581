origins as (
    select
        unnest($origin_query::integer[]) as query,
        unnest($origin_day::date[]) as day
)
