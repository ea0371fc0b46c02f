"""Tests of training.network."""
