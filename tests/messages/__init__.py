"""Tests of `brokerwatch.messages`."""
