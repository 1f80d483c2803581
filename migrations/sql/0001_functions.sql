-- Takes the next position in the change feed; must be the last statement before the commit.
-- The lock is held until the transaction has ended and is visible, so the next taker sees this
-- row, and positions follow commit order without gaps, on the primary and on every standby.
create function take_position(batch bigint, event_count integer)
returns table (taken_position bigint, taken_at timestamptz)
language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock(7077, 1);
    return query
        insert into ingest_batches (position, batch_id, events, committed_at)
        select
            coalesce(max(b.position), 0) + 1,
            batch,
            event_count,
            -- Never before an earlier batch, even when the server's clock was set back.
            greatest(clock_timestamp(), max(b.committed_at) + interval '1 microsecond')
        from (select * from ingest_batches order by position desc limit 1) as b
        returning position, committed_at;
end
$$;

-- Makes the monthly partitions of `events` for the months of both days and all in between.
-- It runs as its owner, so that the writer needs no right to make tables.
create function make_event_partitions(first_day date, last_day date) returns integer
language plpgsql volatile security definer set search_path = public as $$
declare
    month date := date_trunc('month', first_day);
    made integer := 0;
begin
    perform pg_advisory_xact_lock(7077, 2);
    while month <= last_day loop
        if to_regclass(format('events_%s', to_char(month, 'YYYY_MM'))) is null then
            execute format(
                'create table events_%s partition of events for values from (%L) to (%L)',
                to_char(month, 'YYYY_MM'),
                to_char(month, 'YYYY-MM-DD 00:00:00+00'),
                to_char(month + interval '1 month', 'YYYY-MM-DD 00:00:00+00')
            );
            made := made + 1;
        end if;
        month := month + interval '1 month';
    end loop;
    return made;
end
$$;
