"""Tests of `brokerwatch.simulator`."""
