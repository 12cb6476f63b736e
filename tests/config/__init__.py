"""Tests of `brokerwatch.config`."""
