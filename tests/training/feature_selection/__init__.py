"""Tests of training.feature_selection."""
