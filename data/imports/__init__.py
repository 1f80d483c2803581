"""Import files as rows: CSV, JSON lines, Parquet and web server access logs, in bounded memory."""
