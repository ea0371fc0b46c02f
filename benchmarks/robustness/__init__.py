"""Benchmarks of the server under attack, over long runs and while models are replaced."""
