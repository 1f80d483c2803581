"""What it means: access, limits, calendars, and which store answers. No GraphQL, no SQL."""
