"""Whatever starts the nodes of a pool, the same must hold."""
