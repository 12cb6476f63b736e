"""Tests of `brokerwatch.web`."""
