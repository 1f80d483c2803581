set local role footfall_owner;

-- When the key was last used, to the minute: processes write it now and then. The writer may update
-- the table already; no index has it, so that an update touches no other page.
alter table api_keys add column last_used_at timestamptz;
reset role;
