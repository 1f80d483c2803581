"""Requests to addresses that users name: which of them may be called, and by what client."""
