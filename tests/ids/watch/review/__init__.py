"""Tests of how the watch scores windows."""
