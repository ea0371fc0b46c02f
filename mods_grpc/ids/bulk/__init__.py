"""Aggregation of recorded logs at scale, by columns with polars."""
