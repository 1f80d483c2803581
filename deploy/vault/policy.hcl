# What Footfall may do in Vault, and nothing more. `setup.py` puts your names in place of the
# defaults that stand here: mounts `secret`, `transit` and `database`, path, key and role `footfall`.

# Its own keys and passwords, and the secrets that operators set by name.
path "secret/data/footfall" { capabilities = ["read"] }
path "secret/data/footfall/named/*" { capabilities = ["read"] }

# Encryption of what it keeps for clients. It may not read, export or delete the key.
path "transit/encrypt/footfall" { capabilities = ["update"] }
path "transit/decrypt/footfall" { capabilities = ["update"] }
path "transit/rewrap/footfall" { capabilities = ["update"] }
path "transit/keys/footfall" { capabilities = ["read"] }

# Users in the database, for as long as a process runs.
path "database/creds/footfall" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }

# Its own token.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
