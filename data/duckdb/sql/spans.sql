{name} as (
    select
        unnest(${name}_query::integer[]) as query,
        unnest(${name}_site_id::varchar[]) as site_id,
        unnest(${name}_starts_at::timestamp[]) as starts_at,
        unnest(${name}_ends_at::timestamp[]) as ends_at,
        unnest(${name}_utc_offset::interval[]) as utc_offset
)
