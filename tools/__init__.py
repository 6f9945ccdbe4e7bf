"""Command-line tools beside the three programs."""
