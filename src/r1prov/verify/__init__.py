"""Evidence, checks, and the one place that decides."""
