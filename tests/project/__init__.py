"""Tests of the project itself: documentation, packaging, imports."""
