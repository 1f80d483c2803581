-- Three roles: the owner of all tables, the writer that the service uses on the primary, and
-- replica_user for all of its reads. Roles belong to the whole server, so another database of
-- the same server may have made them already.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['footfall_owner', 'footfall_writer', 'replica_user'] loop
        begin
            execute format('create role %I login', wanted);
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;
    -- The migrating user works as the owner below, and the service as the writer.
    if not (select rolsuper from pg_roles where rolname = current_user) then
        execute format('grant footfall_owner, footfall_writer, replica_user to %I', current_user);
    end if;
end
$$;

-- replica_user cannot write even where somebody grants it too much by mistake.
alter role replica_user set default_transaction_read_only = on;

grant usage, create on schema public to footfall_owner;
grant usage on schema public to footfall_writer, replica_user;
set local role footfall_owner;
