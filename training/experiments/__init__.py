"""Experiments with many fits: comparison of architectures and hyperparameter search."""
