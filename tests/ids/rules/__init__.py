"""Tests of the fixed rules, on synthetic records and on real data."""
