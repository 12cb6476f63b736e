"""Tests of `brokerwatch.cluster`."""
