"""Exports: the events of a stretch of the feed as files, a manifest of them, and their proof."""
