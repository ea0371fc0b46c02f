"""Simulated hosts for the benchmark of changes, and the changes that happen to them."""
