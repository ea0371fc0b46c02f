"""Sentences: what an alert says to a reader."""
