"""Models that run without this library."""
