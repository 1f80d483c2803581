-- The file is what PostgreSQL's COPY writes as CSV: every text in quotes, a missing value as a bare
-- \N. Nothing is guessed, and no second thread starts in the middle of a quoted line break.
insert into events
select
    site_id,
    event_id,
    event_type,
    make_timestamp(occurred_at) as occurred_at,
    make_timestamp(received_at) as received_at,
    coalesce(user_id, visitor_id) as actor,
    user_id,
    visitor_id,
    session_id,
    url,
    path,
    referrer,
    properties,
    position * 65536 + ordinal as arrival
from read_csv(
    $rows,
    columns = {
        'event_id': 'uuid',
        'site_id': 'varchar',
        'event_type': 'varchar',
        'occurred_at': 'bigint',
        'received_at': 'bigint',
        'user_id': 'varchar',
        'visitor_id': 'varchar',
        'session_id': 'varchar',
        'url': 'varchar',
        'path': 'varchar',
        'referrer': 'varchar',
        'properties': 'varchar',
        'position': 'bigint',
        'ordinal': 'bigint'
    },
    auto_detect = false,
    header = false,
    delim = ',',
    quote = '"',
    escape = '"',
    new_line = '\n',
    nullstr = '\N',
    allow_quoted_nulls = false,
    strict_mode = true,
    compression = 'none',
    max_line_size = 4194304,
    buffer_size = 16777216,
    parallel = false
)
