"""Tests of the promises that benchmarks measure."""
