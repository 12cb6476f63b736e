"""Tests of `brokerwatch.preflight`."""
