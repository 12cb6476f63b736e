"""Tests of `brokerwatch.dropin`."""
