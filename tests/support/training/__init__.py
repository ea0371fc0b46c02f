"""Data and exported networks for tests of training."""
