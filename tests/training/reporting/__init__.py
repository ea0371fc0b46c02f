"""Tests of training.reporting."""
