"""The tests of brokerwatch."""
