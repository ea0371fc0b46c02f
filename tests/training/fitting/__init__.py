"""Tests of training.fitting."""
