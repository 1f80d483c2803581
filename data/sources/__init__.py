"""External sources: what they are, how they are fetched, and what keeps their records fresh."""
