known as (
    select
        unnest($known_query::integer[]) as query,
        unnest($known_site_id::varchar[]) as site_id,
        unnest($known_arrival::bigint[]) as arrival,
        unnest($known_at::timestamp[]) as at
)
