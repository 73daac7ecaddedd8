"""Records, ports, errors, ids and the clock: what every room may speak of, and no framework."""
