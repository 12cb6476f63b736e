"""Real processes that are killed, stopped, cut off and starved, and what was recorded meanwhile."""
