"""Fitting of networks: batches, early stopping, checkpoints, and the run directory that holds the result."""
