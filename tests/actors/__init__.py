"""Tests of `brokerwatch.actors`."""
