"""Benchmarks of detection: labelled sets, injected events, cold start and cost."""
