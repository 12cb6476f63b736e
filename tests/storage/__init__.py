"""Tests of `brokerwatch.storage`."""
