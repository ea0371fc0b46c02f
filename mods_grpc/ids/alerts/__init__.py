"""Alerts: the episodes that raise them, their suppression, formats and sinks."""
