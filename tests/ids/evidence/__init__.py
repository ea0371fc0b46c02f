"""Tests of the counts of entities and of the evidence that comes of them."""
