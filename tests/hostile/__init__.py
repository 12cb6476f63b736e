"""Attacks on the sockets of a cluster and of a listener: `make hostile`, and a few in `make test`."""
