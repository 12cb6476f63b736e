"""Tests of `brokerwatch.health`."""
