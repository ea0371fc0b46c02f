"""Formats of alerts: each module turns an alert into one line and knows nothing of files or sockets."""
