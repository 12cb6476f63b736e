"""Tests of the whole: real ccxt, real HTTP, real sockets."""
