"""Tests of `brokerwatch.exchanges`."""
