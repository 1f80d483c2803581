"""How it is stored: value types, the ledger (PostgreSQL), the columnar copy (DuckDB)."""
