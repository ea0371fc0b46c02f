"""Sinks of alerts: files, text streams, and network receivers behind a spool."""
