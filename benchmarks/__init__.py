"""What brokerwatch costs, measured on the machine at hand: `make bench`, docs/benchmarks.md."""
