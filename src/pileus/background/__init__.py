"""Single requests that are answered while nobody waits: one job for each, which outlives every process."""
