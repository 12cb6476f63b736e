"""Tests of `brokerwatch.placement`."""
