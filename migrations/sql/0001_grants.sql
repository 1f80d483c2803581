grant select, insert, update on sites, api_keys to footfall_writer;
grant select, insert on event_ids, events, ingest_batches, rejected_events to footfall_writer;
grant select, insert, delete on visitor_salts to footfall_writer;
grant select on ledger to footfall_writer;
grant usage on sequence batch_ids to footfall_writer;
revoke execute on function make_event_partitions(date, date) from public;
grant execute on function make_event_partitions(date, date) to footfall_writer;

-- What reports need and nothing more: no keys, no salts, no payloads of refused events.
grant select on ledger, sites, events, event_ids, ingest_batches to replica_user;
grant select (site_id, event_id, code, message, received_at) on rejected_events to replica_user;
revoke execute on function take_position(bigint, integer) from public;
grant execute on function take_position(bigint, integer) to footfall_writer;
reset role;
