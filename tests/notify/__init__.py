"""Tests of `brokerwatch.notify`."""
