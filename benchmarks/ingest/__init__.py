"""Benchmarks of the way from logs to windows and alerts."""
