"""Sinks of alerts: each delivers lines to a file, a stream or a network receiver and knows nothing of their format."""
