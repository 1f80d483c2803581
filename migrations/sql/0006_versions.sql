-- The service asks at its start whether migrations are missing. It may do that as a user which
-- Vault has made, and which is a member of these two roles and nothing else.
grant select on alembic_version to footfall_writer, replica_user;
