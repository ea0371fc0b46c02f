"""Windows to score, computed from records or read from recorded aggregates."""
