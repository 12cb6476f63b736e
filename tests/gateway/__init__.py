"""Tests of `brokerwatch.gateway`."""
