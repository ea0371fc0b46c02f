"""Benchmarks of the server: latency, throughput, providers, memory per series."""
