"""Benchmarks of training: baselines, pooled series, time per epoch."""
