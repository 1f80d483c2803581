"""The door: HTTP, lifespan, settings, command line. Knows everything, decides nothing."""
