"""Tests of `brokerwatch.routing`."""
