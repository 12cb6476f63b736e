"""Tests of `brokerwatch.cli`."""
