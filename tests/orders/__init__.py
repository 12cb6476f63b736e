"""Tests of `brokerwatch.orders`."""
