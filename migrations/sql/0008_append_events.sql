set local role footfall_owner;

-- Brings a group of events and rejections into the ledger, all or nothing: `taken_position` is its
-- place in the change feed, null where no event was new, and `known_ordinals` names the events
-- whose ids the ledger knew. An id may come once in a group. Element i of each array belongs to
-- event or rejection i.
--
-- One statement with a short answer, on purpose: once the server has begun it needs its client no
-- more, so a client that is killed or frozen leaves no id and no position locked behind it. A COPY
-- in a transaction does, for as long as the client is frozen, and nothing on the server ends it.
create function append_events(
    ordinals smallint[], site_ids text[], ids uuid[], types text[],
    occurred timestamptz[], received timestamptz[],
    users text[], visitors text[], sessions text[],
    urls text[], paths text[], referrers text[], property_texts text[],
    rejected_site_ids text[], rejected_ids uuid[], codes text[], messages text[],
    payloads text[], payload_sizes integer[], rejected timestamptz[],
    out taken_position bigint, out known_ordinals smallint[]
)
language plpgsql volatile as $$
declare
    new_ids uuid[];
    new_site_ids text[];
    batch bigint;
begin
    insert into rejected_events
        (site_id, event_id, code, message, payload, payload_bytes, received_at)
    select
        unnest(rejected_site_ids), unnest(rejected_ids), unnest(codes), unnest(messages),
        unnest(payloads), unnest(payload_sizes), unnest(rejected);

    -- Ordered, so that two groups with the same ids wait for one another instead of locking each
    -- other out.
    with claimed as (
        insert into event_ids (event_id, site_id)
        select sent_id, sent_site_id
        from (select unnest(ids) as sent_id, unnest(site_ids) as sent_site_id) as sent
        order by sent_id, sent_site_id
        on conflict do nothing
        returning event_id, site_id
    )
    select array_agg(event_id), array_agg(site_id) into new_ids, new_site_ids from claimed;

    known_ordinals := '{}';
    if new_ids is null then
        known_ordinals := ordinals;
        return;
    end if;

    batch := nextval('batch_ids');
    -- Lists of unnest() give rows one by one; in a FROM each array would be kept whole once more.
    if cardinality(new_ids) = cardinality(ids) then
        insert into events
        select
            batch, unnest(ordinals), unnest(site_ids), unnest(ids), unnest(types),
            unnest(occurred), unnest(received), unnest(users), unnest(visitors), unnest(sessions),
            unnest(urls), unnest(paths), unnest(referrers), unnest(property_texts)::json;
    else
        known_ordinals := array(
            select ordinal
            from (
                select
                    unnest(ordinals) as ordinal, unnest(ids) as sent_id,
                    unnest(site_ids) as sent_site_id
            ) as sent
            where (sent_id, sent_site_id) not in (select unnest(new_ids), unnest(new_site_ids))
        );
        insert into events
        select batch, sent.*
        from (
            select
                unnest(ordinals) as ordinal, unnest(site_ids), unnest(ids), unnest(types),
                unnest(occurred), unnest(received), unnest(users), unnest(visitors),
                unnest(sessions), unnest(urls), unnest(paths), unnest(referrers),
                unnest(property_texts)::json
        ) as sent
        where ordinal not in (select unnest(known_ordinals));
    end if;

    -- Last, as its lock is held until the commit: positions follow the order of commits.
    select placed.taken_position into taken_position
    from take_position(batch, cardinality(new_ids)) as placed;
end
$$;

revoke execute on function append_events from public;
grant execute on function append_events to footfall_writer;
reset role;
