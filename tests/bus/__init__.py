"""Tests of `brokerwatch.bus`."""
