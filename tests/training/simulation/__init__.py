"""Tests of training.simulation."""
