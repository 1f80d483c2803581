"""Reproducible measurements of the running service; see README.md in this folder."""
