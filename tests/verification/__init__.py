"""Tests of `brokerwatch.verification`."""
