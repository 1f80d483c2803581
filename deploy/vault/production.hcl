# Vault in the production variant: a store that can grow to several nodes, TLS, sealed at its start.
storage "raft" {
  path    = "/vault/file"
  node_id = "vault-1"
}
listener "tcp" {
  address         = "0.0.0.0:8200"
  tls_cert_file   = "/run/secrets/vault_certificate"
  tls_key_file    = "/run/secrets/vault_key"
  tls_min_version = "tls12"
}
api_addr      = "https://vault:8200"
cluster_addr  = "https://vault:8201"
disable_mlock = true
ui            = false
